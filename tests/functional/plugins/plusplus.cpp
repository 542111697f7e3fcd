/* SPDX-License-Identifier: MIT */
/* A module for the tests: that one can be written in C++. Counts the stanzas that come in and tells how many. */

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <new>
#include <string>

#include <startalkd/module.h>

namespace {

struct Conf {
	const char *answer;
};

struct Counter {
	const Conf *conf;
	std::map<std::uint64_t, int> seen; /* by session */
};

const stk_option options[] = {
	{ "answer", STK_OPT_STR, offsetof(Conf, answer), "yes", 1, 100, "What is answered", nullptr },
	{},
};

Counter &counter(stk_module *module)
{
	return *static_cast<Counter *>(stk_data(module));
}

int count(stk_module *module, const stk_event *event, void *)
{
	counter(module).seen[stk_session_id(event->session)]++;
	return STK_PASS;
}

int answer(stk_module *module, stk_session *session, stk_stanza *stanza, void *)
{
	const Counter &all = counter(module);
	const std::string text = std::string(all.conf->answer) + ", " + std::to_string(all.seen.at(stk_session_id(session))) + " times";
	stk_stanza *result = stk_stanza_result(stanza);
	stk_node_set_text(stk_node_add(stk_stanza_edit(result), "query", "urn:example:plusplus"), text.c_str());
	const int rc = result ? stk_reply(stanza, result) : -ENOMEM;
	return rc < 0 ? rc : STK_DONE;
}

int load(stk_module *module, const void *conf)
{
	stk_match match = {};
	match.size = sizeof(match);
	match.element = STK_IQ;
	match.type = "get";
	match.xmlns = "urn:example:plusplus";
	auto *all = new (std::nothrow) Counter;
	if (!all) {
		return -ENOMEM;
	}
	all->conf = static_cast<const Conf *>(conf);
	stk_set_data(module, all);
	int rc = stk_handle(module, &match, answer, nullptr);
	rc = rc < 0 ? rc : stk_on(module, STK_STANZA_IN, 0, count, nullptr);
	if (rc < 0) {
		delete all;
	}
	return rc;
}

void unload(stk_module *module)
{
	delete static_cast<Counter *>(stk_data(module));
}

void fill(struct stk_module_def &def)
{
	def.name = "plusplus";
	def.version = "1";
	def.options = options;
	def.conf_size = sizeof(Conf);
	def.load = load;
	def.unload = unload;
}

} // namespace

STK_MODULE_CXX(fill);
