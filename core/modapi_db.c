/* SPDX-License-Identifier: MIT */
/* The calls by which modules reach their tables. */

#include <errno.h>
#include <stdlib.h>

#include "core/db.h"
#include "core/modapi.h"
#include "core/server.h"

struct sqlite3 *stk_db(struct stk_module *module, const char *file, const char *const *migrations)
{
	return db_get(module->server->db, module->name, file, migrations);
}

int stk_db_durability(struct stk_module *module, const char *file, enum stk_durability durability)
{
	return module->state == MODULE_LOADING ? db_durability(module->server->db, file, durability) : -EPERM;
}

struct sqlite3_stmt *stk_db_statement(struct sqlite3 *db, const char *sql)
{
	return db_statement(db, sql);
}

static int queue_write(struct stk_module *module, const char *file, const struct db_request *wanted)
{
	struct db_request *request = malloc(sizeof(*request));
	if (!request) {
		return -ENOMEM;
	}
	*request = *wanted;
	request->module = module;
	atomic_fetch_add(&module->under_way, 1);
	int rc = db_write(module->server->db, file, request);
	if (rc < 0) {
		atomic_fetch_sub(&module->under_way, 1);
		free(request);
	}
	return rc;
}

int stk_db_write(struct stk_module *module, const char *file, stk_tx_fn *tx, stk_done_fn *done, void *arg)
{
	return queue_write(module, file, &(struct db_request){ .tx = tx, .done = done, .arg = arg });
}

int stk_db_append(struct stk_module *module, const char *file, stk_tx_fn *tx, stk_done_fn *done, void *arg)
{
	return queue_write(module, file, &(struct db_request){ .tx = tx, .done = done, .arg = arg, .append = true });
}

void modapi_run_written(struct mail *mail)
{
	struct db_request *request = (struct db_request *)mail;
	if (request->done) {
		double entered = module_enter(request->module, "done of a write");
		request->done(request->module, request->status, request->arg);
		module_leave(request->module, "done of a write", entered);
	}
	atomic_fetch_sub(&request->module->under_way, 1);
	free(request);
}
