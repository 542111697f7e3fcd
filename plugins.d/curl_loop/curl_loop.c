/* SPDX-License-Identifier: MIT */
/* libcurl's multi interface in the server's loop. Owns the connections, the watches of their descriptors, and curl's
 * timer; what is asked, and what an answer means, is the caller's.
 *
 * curl tells which descriptors it waits for and until when; stk_watch() and stk_timer() wait and call back, and curl
 * goes on. */

#include "curl_loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct curl_loop {
	struct stk_module *module;
	struct curl_loop_conf conf;
	CURLM *multi;
	struct stk_timer *timer;
};

/* ---- what may be asked ---- */

/* Addresses only: what localhost is, somebody else may decide. */
static bool is_loopback(const char *host)
{
	unsigned byte;
	char rest;
	return strcmp(host, "[::1]") == 0 || (sscanf(host, "127.%u.%u.%u%c", &byte, &byte, &byte, &rest) == 3);
}

int curl_loop_check(const char *url, bool allow_http, char *err, size_t errlen)
{
	char *scheme = NULL, *host = NULL;
	CURLU *parts = curl_url();
	if (!parts || curl_url_set(parts, CURLUPART_URL, url, 0) || curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(parts, CURLUPART_HOST, &host, 0)) {
		snprintf(err, errlen, "url: '%s' is no URL", url);
	} else if (strcasecmp(scheme, "https") != 0 && strcasecmp(scheme, "http") != 0) {
		snprintf(err, errlen, "url: '%s' is neither https:// nor http://", url);
	} else if (strcasecmp(scheme, "http") == 0 && !allow_http && !is_loopback(host)) {
		snprintf(err, errlen,
			 "url: %s would be asked without TLS, which is for 127.0.0.1 and [::1] only; use https://, or "
			 "set allow-http",
			 host);
	} else {
		errlen = 0;
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parts);
	return errlen ? -EINVAL : 0;
}

/* ---- the loop ---- */

static void finish(struct curl_loop *loop, struct curl_request *request)
{
	curl_multi_remove_handle(loop->multi, request->easy);
	curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers);
	request->easy = NULL;
	request->headers = NULL;
}

static void act(struct curl_loop *loop, curl_socket_t fd, int events)
{
	int running, left;
	struct stk_module *module = loop->module;
	curl_multi_socket_action(loop->multi, fd, events, &running);
	const CURLMsg *message;
	while ((message = curl_multi_info_read(loop->multi, &left))) {
		CURLcode code = message->data.result; /* the message is gone with the handle */
		struct curl_request *request = NULL;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
		curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &request->status);
		if (code == CURLE_WRITE_ERROR) {
			snprintf(request->why, sizeof(request->why), "the answer has more than %d bytes",
				 CURL_LOOP_ANSWER_MAX);
		} else if (code && !*request->why) {
			snprintf(request->why, sizeof(request->why), "%s", curl_easy_strerror(code));
		}
		finish(loop, request);
		request->done(module, request, code);
	}
}

static void on_ready(struct stk_module *module, int fd, unsigned events, void *arg)
{
	(void)module;
	act(arg, fd, (events & STK_READ ? CURL_CSELECT_IN : 0) | (events & STK_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(struct stk_module *module, void *arg)
{
	struct curl_loop *loop = arg;
	(void)module;
	stk_timer_stop(&loop->timer); /* it was for once; curl sets the next one */
	act(loop, CURL_SOCKET_TIMEOUT, 0);
}

/* curl: wait for FD. OWN is the watch that was made when it first said so. */
static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *own)
{
	struct curl_loop *loop = arg;
	struct stk_watch *watch = own;
	unsigned events = (what & CURL_POLL_IN ? STK_READ : 0) | (what & CURL_POLL_OUT ? STK_WRITE : 0);
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		stk_watch_stop(&watch);
		curl_multi_assign(loop->multi, fd, NULL);
	} else if (watch) {
		stk_watch_set(watch, events);
	} else if (stk_watch(loop->module, fd, events, on_ready, loop, &watch) == 0) {
		curl_multi_assign(loop->multi, fd, watch);
	} else {
		return -1; /* curl fails the requests */
	}
	return 0;
}

/* curl: call again after AFTER ms; -1: no need to. */
static int want_timer(CURLM *multi, long after, void *arg)
{
	struct curl_loop *loop = arg;
	(void)multi;
	stk_timer_stop(&loop->timer);
	if (after >= 0) {
		loop->timer = stk_timer(loop->module, (double)after / 1000, 0, on_timer, loop);
	}
	return 0; /* without a timer the module is being unloaded: nothing goes on */
}

/* ---- requests ---- */

static size_t take_answer(char *data, size_t one, size_t count, void *arg)
{
	struct curl_request *request = arg;
	size_t len = one * count;
	if (len > CURL_LOOP_ANSWER_MAX - request->len) {
		return 0; /* CURLE_WRITE_ERROR */
	}
	memcpy(request->answer + request->len, data, len);
	request->len += len;
	request->answer[request->len] = '\0';
	return len;
}

/* The safe side of what libcurl can do: two protocols, no redirects (its default), no proxy or password from somewhere
 * around. */
static void set_up(const struct curl_loop *loop, struct curl_request *request, const char *body, size_t len)
{
	CURL *easy = request->easy;
	curl_easy_setopt(easy, CURLOPT_URL, loop->conf.url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* signals are the server's */
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(loop->conf.timeout * 1000));
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT,
			 1L); /* a name that is still being resolved must not hold up who gives up */
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (loop->conf.ca_file) {
		curl_easy_setopt(easy, CURLOPT_CAINFO, loop->conf.ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* this one and no other */
	}
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body); /* not copied */
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->why);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
}

int curl_loop_start(struct curl_loop *loop, struct curl_request *request, const char *body, size_t len,
		    const char *const *headers)
{
	request->status = 0;
	request->len = 0;
	request->answer[0] = request->why[0] = '\0';
	request->headers = curl_slist_append(NULL, "Expect:"); /* no asking whether a body may come */
	for (; request->headers && headers && *headers; headers++) {
		struct curl_slist *longer = curl_slist_append(request->headers, *headers);
		if (!longer) {
			curl_slist_free_all(request->headers);
		}
		request->headers = longer;
	}
	request->easy = request->headers ? curl_easy_init() : NULL;
	if (!request->easy) {
		curl_slist_free_all(request->headers);
		request->headers = NULL;
		return -ENOMEM;
	}
	set_up(loop, request, body, len);
	if (curl_multi_add_handle(loop->multi, request->easy)) { /* it sets a timer, and begins when that runs */
		finish(loop, request);
		return -ENOMEM;
	}
	return 0;
}

void curl_loop_cancel(struct curl_loop *loop, struct curl_request *request)
{
	if (request->easy) {
		finish(loop, request);
	}
}

/* ---- life ---- */

void curl_loop_set(struct curl_loop *loop, const struct curl_loop_conf *conf)
{
	loop->conf = *conf;
	curl_multi_setopt(loop->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, conf->connections);
	curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, conf->connections); /* kept open for the next request */
}

struct curl_loop *curl_loop_new(struct stk_module *module, const struct curl_loop_conf *conf)
{
	struct curl_loop *loop = calloc(1, sizeof(*loop));
	if (!loop ||
	    curl_global_init(CURL_GLOBAL_DEFAULT)) { /* counted: each module calls it, and its opposite, once */
		free(loop);
		return NULL;
	}
	loop->module = module;
	loop->multi = curl_multi_init();
	if (!loop->multi) {
		curl_loop_free(loop);
		return NULL;
	}
	curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop);
	curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop);
	curl_loop_set(loop, conf);
	return loop;
}

/* The server has stopped the timer and the watches by now; curl still names them once. */
void curl_loop_free(struct curl_loop *loop)
{
	if (!loop) {
		return;
	}
	curl_multi_cleanup(loop->multi);
	stk_timer_stop(&loop->timer);
	curl_global_cleanup();
	free(loop);
}
