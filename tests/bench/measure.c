/* SPDX-License-Identifier: MIT */
/* Clocks, processor time and memory of processes, distributions of latencies, and printing them as JSON. Knows nothing
 * of the protocol. */

#include "tests/bench/measure.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- distributions ---- */

/* Values below 2^(SUB+1) have a bucket each; above, the leading SUB+1 bits choose it. */
static unsigned bucket_of(uint64_t value)
{
	if (value < (2u << HISTOGRAM_SUB)) {
		return (unsigned)value;
	}
	unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB;
	unsigned bucket = (shift << HISTOGRAM_SUB) + (unsigned)(value >> shift);
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The greatest value of a bucket. */
static uint64_t bucket_top(unsigned bucket)
{
	if (bucket < (2u << HISTOGRAM_SUB)) {
		return bucket;
	}
	unsigned shift = (bucket >> HISTOGRAM_SUB) - 1;
	uint64_t lead = (bucket & ((1u << HISTOGRAM_SUB) - 1)) | 1u << HISTOGRAM_SUB;
	return ((lead + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->buckets[bucket_of(value)]++;
	histogram->count++;
	histogram->sum += value;
	histogram->max = value > histogram->max ? value : histogram->max;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.5), seen = 0;
	wanted = wanted ? wanted : 1;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && histogram->count; i++) {
		seen += histogram->buckets[i];
		if (seen >= wanted) {
			uint64_t top = bucket_top(i);
			return top < histogram->max ? top : histogram->max;
		}
	}
	return histogram->max;
}

/* ---- clocks and memory ---- */

int64_t clock_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static double own_cpu(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double cpu_seconds(pid_t pid)
{
	char path[64], line[1024];
	if (!pid) {
		return own_cpu();
	}
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
	if (file) {
		fclose(file);
	}
	line[n] = '\0';
	unsigned long user, system;
	const char *at = strrchr(line, ')'); /* the program's name may hold anything */
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
		return -1;
	}
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

double cpu_seconds_of_all(void)
{
	/* user, nice, system, idle, iowait, irq, softirq, steal */
	unsigned long long part[8];
	FILE *file = fopen("/proc/stat", "re");
	int n = file ? fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &part[0], &part[1], &part[2],
			      &part[3], &part[4], &part[5], &part[6], &part[7])
		     : 0;
	if (file) {
		fclose(file);
	}
	return n == 8 ? (double)(part[0] + part[1] + part[2] + part[5] + part[6] + part[7]) /
				(double)sysconf(_SC_CLK_TCK)
		      : -1;
}

long rss_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "VmRSS: %ld", &kib) == 1) {
			break;
		}
	}
	if (file) {
		fclose(file);
	}
	return kib;
}

/* ---- JSON ---- */

static void put_name(struct json *json, const char *name)
{
	fputs(json->comma ? ", " : "", json->file);
	if (name) {
		fprintf(json->file, "\"%s\": ", name);
	}
	json->comma = true;
}

void json_open(struct json *json, const char *name)
{
	put_name(json, name);
	fputc('{', json->file);
	json->comma = false;
}

void json_close(struct json *json)
{
	fputc('}', json->file);
	json->comma = true;
}

void json_array(struct json *json, const char *name)
{
	put_name(json, name);
	fputc('[', json->file);
	json->comma = false;
}

void json_array_close(struct json *json)
{
	fputc(']', json->file);
	json->comma = true;
}

void json_text(struct json *json, const char *name, const char *value)
{
	put_name(json, name);
	fputc('"', json->file);
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		if (c == '"' || c == '\\') {
			fprintf(json->file, "\\%c", c);
		} else if (c < 0x20 || c == 0x7f) {
			fprintf(json->file, "\\u%04x", c);
		} else {
			fputc(c, json->file);
		}
	}
	fputc('"', json->file);
}

void json_int(struct json *json, const char *name, int64_t value)
{
	put_name(json, name);
	fprintf(json->file, "%" PRId64, value);
}

void json_number(struct json *json, const char *name, double value, int digits)
{
	put_name(json, name);
	fprintf(json->file, "%.*f", digits, value);
}

void json_bool(struct json *json, const char *name, bool value)
{
	put_name(json, name);
	fputs(value ? "true" : "false", json->file);
}

void json_histogram(struct json *json, const char *name, const struct histogram *histogram)
{
	json_open(json, name);
	json_int(json, "count", (int64_t)histogram->count);
	if (histogram->count) {
		json_number(json, "mean", (double)histogram->sum / (double)histogram->count, 1);
		json_int(json, "p50", (int64_t)histogram_quantile(histogram, 0.5));
		json_int(json, "p90", (int64_t)histogram_quantile(histogram, 0.9));
		json_int(json, "p99", (int64_t)histogram_quantile(histogram, 0.99));
		json_int(json, "max", (int64_t)histogram->max);
	}
	json_close(json);
}
