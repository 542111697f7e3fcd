/* SPDX-License-Identifier: MIT */
/* Figures of modules: those that a module counts itself, and what the core has counted of it. Owns their names; what they
 * mean is their module's business. */

#include "core/modapi.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/server.h"

#define NAME_MAX_BYTES 64

static bool is_name(const char *name)
{
	size_t len = 0;
	while (islower((unsigned char)name[len]) || isdigit((unsigned char)name[len]) || name[len] == '_') {
		len++;
	}
	return len && len <= NAME_MAX_BYTES && !name[len];
}

static void free_metric(struct stk_metric *metric)
{
	if (metric) {
		free(metric->name);
		free(metric->help);
	}
	free(metric);
}

struct stk_metric *stk_metric(struct stk_module *module, const char *name, const char *help)
{
	char full[256];
	if (module->state != MODULE_LOADING || !name || !is_name(name)) {
		module_log(module, LOG_ERR, "metric '%.80s': %s", name ? name : "",
		           module->state == MODULE_LOADING ? "a name has a to z, 0 to 9 and _ only, 64 at most" : "made outside of load()");
		return NULL;
	}
	if (snprintf(full, sizeof(full), "%s_%s", module->name, name) >= (int)sizeof(full)) {
		return NULL;
	}
	struct stk_metric **last = &module->metrics;
	for (; *last; last = &(*last)->next) {
		if (strcmp((*last)->name, full) == 0) {
			module_log(module, LOG_ERR, "metric '%s': there is one of this name already", name);
			return NULL;
		}
	}
	struct stk_metric *metric = calloc(1, sizeof(*metric));
	if (!metric || !(metric->name = strdup(full)) || !(metric->help = strdup(help ? help : ""))) {
		free_metric(metric);
		return NULL;
	}
	*last = metric;
	return metric;
}

void stk_metric_add(struct stk_metric *metric, int64_t n)
{
	if (metric) {
		atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
	}
}

void stk_metric_set(struct stk_metric *metric, int64_t value)
{
	if (metric) {
		atomic_store_explicit(&metric->value, value, memory_order_relaxed);
	}
}

void metric_free_all(struct stk_module *module)
{
	while (module->metrics) {
		struct stk_metric *metric = module->metrics;
		module->metrics = metric->next;
		free_metric(metric);
	}
}

void stk_metrics(struct stk_module *module, bool (*each)(const struct stk_metric_info *, void *), void *arg)
{
	for (const struct stk_module *other = module->server->modules.modules; other; other = other->next) {
		if (other->state != MODULE_LIVE) {
			continue;
		}
		for (const struct stk_metric *metric = other->metrics; metric; metric = metric->next) {
			struct stk_metric_info info = { .size = sizeof(info), .name = metric->name, .help = metric->help };
			info.value = atomic_load_explicit(&metric->value, memory_order_relaxed);
			if (!each(&info, arg)) {
				return;
			}
		}
	}
}

void stk_modules(struct stk_module *module, bool (*each)(const struct stk_module_info *, void *), void *arg)
{
	for (const struct stk_module *other = module->server->modules.modules; other; other = other->next) {
		const struct module_figures *figures = &other->figures;
		struct stk_module_info info = {
			.size = sizeof(info),
			.name = other->name,
			.version = other->def->version ? other->def->version : "",
			.calls = figures->calls,
			.stanzas = figures->stanzas,
			.microseconds = (uint64_t)(figures->seconds * 1e6),
			.slow_calls = figures->slow_calls,
			.jobs = figures->jobs,
			.jobs_under_way = other->jobs_under_way,
			.jobs_lost = figures->jobs_lost,
		};
		if (other->state == MODULE_LIVE && !each(&info, arg)) {
			return;
		}
	}
}
