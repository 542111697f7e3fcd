/* SPDX-License-Identifier: MIT */
/* Services: what modules offer to each other, found by name and version. Owns the list of offers; a reference follows who
 * offers a service as modules come and go. */

#include <startalkd/service.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/modapi.h"
#include "core/server.h"

int stk_provide(struct stk_module *module, const char *service, uint16_t major, uint16_t minor, const void *table)
{
	struct module_registry *registry = &module->server->modules;
	if (module->state != MODULE_LOADING) {
		return -EPERM;
	}
	if (!service || !*service || !table) {
		return -EINVAL;
	}
	for (const struct provided *other = registry->provided; other; other = other->next) {
		if (strcmp(other->name, service) == 0 && module_counts(other->module)) {
			log_write(LOG_ERR, "module: %s: service %s is offered by module %s already; disable one of them", module->name, service,
			          other->module->name);
			return -EEXIST;
		}
	}
	struct provided *provided = calloc(1, sizeof(*provided));
	char *name = strdup(service);
	if (!provided || !name) {
		free(provided);
		free(name);
		return -ENOMEM;
	}
	*provided = (struct provided){ .module = module, .name = name, .major = major, .minor = minor, .table = table };
	struct provided **last = &registry->provided;
	while (*last) {
		last = &(*last)->next;
	}
	*last = provided;
	registry->generation++;
	return 0;
}

struct stk_service *stk_use(struct stk_module *module, const char *service, uint16_t major, uint16_t minor)
{
	struct stk_service *used = calloc(1, sizeof(*used));
	char *name = strdup(service);
	if (!used || !name) {
		free(used);
		free(name);
		return NULL;
	}
	*used = (struct stk_service){ .next = module->services, .module = module, .name = name, .major = major, .minor = minor };
	used->seen = module->server->modules.generation - 1;
	module->services = used;
	return used;
}

static const struct provided *find(const struct stk_service *service, const struct server *server)
{
	const struct provided *provided = server->modules.provided;
	while (provided && (provided->module->state != MODULE_LIVE || strcmp(provided->name, service->name) != 0)) {
		provided = provided->next;
	}
	if (provided && (provided->major != service->major || provided->minor < service->minor)) {
		log_write(LOG_ERR, "module: %s: wants service %s %u.%u, module %s offers %u.%u; it goes on without", service->module->name,
		          service->name, service->major, service->minor, provided->module->name, provided->major, provided->minor);
		return NULL;
	}
	return provided;
}

const void *stk_service(const struct stk_service *used, struct stk_module **provider)
{
	struct stk_service *service = (struct stk_service *)(uintptr_t)used; /* what was found is remembered */
	const struct server *server = service->module->server;
	if (service->seen != server->modules.generation) {
		service->found = find(service, server);
		service->seen = server->modules.generation;
	}
	const struct provided *found = service->found;
	if (!found || found->module->state != MODULE_LIVE) {
		return NULL;
	}
	if (provider) {
		*provider = found->module;
	}
	return found->table;
}

void stk_services(struct stk_module *module, const char *prefix, bool (*each)(const char *, void *), void *arg)
{
	size_t len = strlen(prefix);
	for (const struct provided *provided = module->server->modules.provided; provided; provided = provided->next) {
		if (provided->module->state == MODULE_LIVE && strncmp(provided->name, prefix, len) == 0 && !each(provided->name, arg)) {
			return;
		}
	}
}

void service_withdraw(struct stk_module *module)
{
	struct module_registry *registry = &module->server->modules;
	struct provided **at = &registry->provided;
	while (*at) {
		struct provided *provided = *at;
		if (provided->module == module) {
			*at = provided->next;
			free(provided->name);
			free(provided);
			registry->generation++;
		} else {
			at = &provided->next;
		}
	}
}

void service_forget(struct stk_module *module)
{
	while (module->services) {
		struct stk_service *service = module->services;
		module->services = service->next;
		free(service->name);
		free(service);
	}
}
