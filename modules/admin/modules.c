/* SPDX-License-Identifier: MIT */
/* The command that tells what is loaded and what it has registered. Which modules are enabled is written in files, and that is
 * the business of whoever may write there: see startalkctl. */

#include "admin.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "facts.h"

static void put_object(struct stk_answer *answer, const json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	if (text) {
		(void)answer_line(answer, text);
	}
	free(text);
}

static void put_modules(struct stk_module *module, const char *name, struct stk_answer *answer)
{
	struct facts facts;
	size_t i;
	json_t *object;
	if (facts_init(&facts) < 0) {
		answer_end(answer, "out of memory");
	} else if (stk_describe(module, name, facts_add, &facts) < 0) {
		answer_fail(answer, "the module '%s' is not loaded", name);
	} else {
		if (json_object_size(facts.head)) {
			put_object(answer, facts.head);
		}
		json_array_foreach (facts.modules, i, object) {
			put_object(answer, object);
		}
		answer_end(answer, NULL);
	}
	facts_fini(&facts);
}

void run_module(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	json_t *root = json_loads(args, JSON_REJECT_DUPLICATES, NULL);
	const char *what = json_string_value(json_object_get(root, "do"));
	const char *name = json_string_value(json_object_get(root, "name"));
	bool info = what && strcmp(what, "info") == 0;
	if (what && strcmp(what, "list") != 0 && !info) {
		answer_end(answer, "module list, or module info NAME; to enable and disable is for startalkctl, which writes the files");
	} else if (info && !name) {
		answer_end(answer, "which module?");
	} else {
		put_modules(module, info ? name : NULL, answer);
	}
	json_decref(root);
}
