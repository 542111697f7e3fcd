/* SPDX-License-Identifier: MIT */
/* Makes objects of the facts that the server tells of modules: what there can be several of becomes an array. Knows how
 * facts are told, and nothing of where they come from. */

#include "facts.h"

#include <errno.h>
#include <string.h>

int facts_init(struct facts *facts)
{
	*facts = (struct facts){ .head = json_object(), .modules = json_array() };
	return facts->head && facts->modules ? 0 : -ENOMEM;
}

void facts_fini(struct facts *facts)
{
	json_decref(facts->head);
	json_decref(facts->modules);
	*facts = (struct facts){ 0 };
}

static json_t *value_of(const char *key, const char *value)
{
	if (strcmp(key, "changed") == 0 || strcmp(key, "required") == 0) {
		return json_boolean(strcmp(value, "yes") == 0);
	}
	json_t *text = json_string(value);
	return text ? text : json_string("(not UTF-8)");
}

/* The array of OBJECT that facts of KEY go to, or NULL: there is one of them. */
static json_t *array_of(json_t *object, const char *key)
{
	static const char *const several[][2] = {
		{ "need", "needs" }, { "handler", "handlers" }, { "domain", "domains" }, { "hook", "hooks" },
		{ "mechanism", "mechanisms" }, { "service", "services" }, { "option", "options" },
	};
	for (size_t i = 0; i < sizeof(several) / sizeof(*several); i++) {
		if (strcmp(several[i][0], key) == 0) {
			json_t *array = json_object_get(object, several[i][1]);
			if (!array) {
				array = json_array();
				json_object_set_new(object, several[i][1], array);
			}
			return array;
		}
	}
	return NULL;
}

static json_t *last_of(const json_t *array)
{
	size_t count = json_array_size(array);
	return count ? json_array_get(array, count - 1) : NULL;
}

void facts_add(const char *key, const char *value, void *arg)
{
	static const char prefix[] = "option-";
	const struct facts *facts = arg;
	if (strcmp(key, "module") == 0) {
		json_array_append_new(facts->modules, json_pack("{s:o}", "name", value_of(key, value)));
		return;
	}
	json_t *object = last_of(facts->modules);
	object = object ? object : facts->head;
	if (strncmp(key, prefix, sizeof(prefix) - 1) == 0) {
		object = last_of(json_object_get(object, "options"));
		key += sizeof(prefix) - 1;
	}
	json_t *array = array_of(object, key);
	if (strcmp(key, "option") == 0) {
		json_array_append_new(array, json_pack("{s:o}", "name", value_of(key, value)));
	} else if (array) {
		json_array_append_new(array, value_of(key, value));
	} else {
		json_object_set_new(object, key, value_of(key, value));
	}
}
