/* SPDX-License-Identifier: MIT */
#ifndef STK_BENCH_MEASURE_H
#define STK_BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define HISTOGRAM_SUB 7 /* bits below the leading one that are kept: steps of 1 % at most */
#define HISTOGRAM_BUCKETS ((40 - HISTOGRAM_SUB + 1) << HISTOGRAM_SUB)

/* Microseconds up to 2^40. */
struct histogram {
	uint64_t count, max, sum;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* The value that SHARE (0 to 1) of all do not exceed; 0: there is none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

int64_t clock_us(void);
/* Seconds of processor time, user and system. PID 0: this process. Negative: it is not to be had. */
double cpu_seconds(pid_t pid);
/* Processor seconds that all processes have taken since the machine's start. Negative: not to be had. */
double cpu_seconds_of_all(void);
/* KiB in memory; negative: not to be had. */
long rss_kib(pid_t pid);

/* One object; names are literals. */
struct json {
	FILE *file;
	bool comma;
};

void json_open(struct json *json, const char *name);
void json_close(struct json *json);
void json_array(struct json *json, const char *name);
void json_array_close(struct json *json);
void json_text(struct json *json, const char *name, const char *value);
void json_int(struct json *json, const char *name, int64_t value);
/* Rounded to DIGITS behind the point. */
void json_number(struct json *json, const char *name, double value, int digits);
void json_bool(struct json *json, const char *name, bool value);
void json_histogram(struct json *json, const char *name, const struct histogram *histogram);

#endif
