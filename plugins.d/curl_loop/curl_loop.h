/* SPDX-License-Identifier: MIT */
#ifndef CURL_LOOP_H
#define CURL_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#include <curl/curl.h>

#include <startalkd/module.h>

/* HTTP requests that are made by the router's thread while it does other things: none of these functions waits. Compile
 * curl_loop.c into your module. */
struct curl_loop;

#define CURL_LOOP_ANSWER_MAX 4096 /* bytes of an answer that are kept; a longer one ends the request */

/* One request. The caller's struct has it as a member, or allocates it, and keeps it until DONE or curl_loop_cancel().
 */
struct curl_request {
	/* Called once, from the loop, never from curl_loop_start(). CODE is CURLE_OK when there is a whole answer,
	 * whatever its status; then `status` and `answer` tell. Else `why` tells. The request is free again, and may be
	 * started anew or freed here. */
	void (*done)(struct stk_module *module, struct curl_request *request, CURLcode code);
	long status; /* of HTTP */
	size_t len;
	char answer[CURL_LOOP_ANSWER_MAX + 1]; /* NUL-terminated */
	char why[CURL_ERROR_SIZE];
	/* private */
	CURL *easy;
	struct curl_slist *headers;
};

/* What is the same for all requests of a module. Strings are borrowed until curl_loop_set() or curl_loop_free(). */
struct curl_loop_conf {
	const char *url, *ca_file; /* ca_file NULL: the system's */
	double timeout;            /* seconds, for all of a request */
	long connections;          /* at most; further requests wait for one */
};

/* May URL be asked? http or https; http on this machine only, unless ALLOW_HTTP. 0, or -EINVAL with ERR. Needs no loop.
 */
int curl_loop_check(const char *url, bool allow_http, char *err, size_t errlen);

/* For load(). NULL: out of memory. */
struct curl_loop *curl_loop_new(struct stk_module *module, const struct curl_loop_conf *conf);
/* For reload(): what is started from now on is asked so. */
void curl_loop_set(struct curl_loop *loop, const struct curl_loop_conf *conf);
/* Posts LEN bytes of BODY (borrowed until the request is over). HEADERS: "Name: value", NULL-terminated. 0 or -ENOMEM.
 */
int curl_loop_start(struct curl_loop *loop, struct curl_request *request, const char *body, size_t len,
		    const char *const *headers);
/* Forgets a request that is under way; DONE is not called. Nothing happens to one that is not. */
void curl_loop_cancel(struct curl_loop *loop, struct curl_request *request);
/* For unload(), when all requests are over or cancelled. Takes NULL. */
void curl_loop_free(struct curl_loop *loop);

#endif
