# SPDX-License-Identifier: MIT
# Fills the reference of options into startalkd.conf.5.in. The line "@core@" becomes the core's sections, the line "@modules@" those
# of the modules, as startalkd itself prints them with --dump-options. Variables: startalkd, the program; modules, their names;
# confs, the folder that holds NAME/NAME.conf.
# A module's purpose is the first sentence of its .conf file.

function escape(text) {
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	sub(/^[.']/, "\\\\\\&&", text)
	return text
}

function purpose(name, line) {
	if ((getline line < (confs "/" name "/" name ".conf")) <= 0) {
		die("no " confs "/" name "/" name ".conf")
	}
	sub(/^; */, "", line)
	sub(/\.? See .*/, "", line)
	return line
}

function die(why) {
	print "options.awk: " why > "/dev/stderr"
	failed = 1
	exit 1
}

function section(name, what) {
	print ".SS [" escape(name) "]"
	print escape(what) "."
}

function option(fields) {
	print ".TP"
	print "\\fB" escape(fields[2]) "\\fR = \\fI" escape(fields[3]) "\\fR"
	print escape(fields[7]) "."
	if (fields[4] == "required") {
		print "Required."
	} else if (fields[5] != "") {
		print "Default: \\fB" escape(fields[5]) "\\fR."
	}
	if (fields[6] != "") {
		print "Range: " escape(fields[6]) "."
	}
}

function dump(name, command, line, fields, lines) {
	command = startalkd " --dump-options " name
	while ((command | getline line) > 0) {
		lines++
		split(line, fields, "\t")
		if (fields[2] != "") {
			option(fields)
		} else {
			section(fields[1], fields[7] != "" ? fields[7] : purpose(name))
		}
	}
	if (close(command) != 0 || !lines) {
		die(command " failed")
	}
}

$0 == "@core@" {
	dump("core")
	next
}

$0 == "@modules@" {
	count = split(modules, names, " ")
	for (i = 1; i <= count; i++) {
		dump(names[i])
	}
	next
}

{ print }

END { exit failed }
