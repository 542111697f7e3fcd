# SPDX-License-Identifier: MIT
# Writes a module's page anew with the first paragraph of its section "## Options" made from what startalkd --dump-options prints.
# Variables: startalkd, the program; name, the module.

function die(why) {
	print "options-md.awk: " FILENAME ": " why > "/dev/stderr"
	failed = 1
	exit 1
}

function cell(text) {
	gsub(/\|/, "\\|", text)
	return text
}

# on | off; 1 to 5; one of: a | b
function value(type, range, text) {
	sub(/^one of: /, "", type)
	return range == "" ? type : type ", " range
}

function standard(required, dflt) {
	return required == "required" ? "required" : dflt == "" ? "" : "`" dflt "`"
}

function print_table(command, line, fields, lines, options) {
	command = startalkd " --dump-options " name
	while ((command | getline line) > 0) {
		lines++
		split(line, fields, "\t")
		if (fields[2] == "") {
			continue
		}
		if (!options++) {
			print "| option | value | default | meaning |"
			print "| --- | --- | --- | --- |"
		}
		print "| `" fields[2] "` | " cell(value(fields[3], fields[6])) " | " cell(standard(fields[4], fields[5])) " | " cell(fields[7]) " |"
	}
	if (close(command) != 0 || !lines) {
		die(command " failed")
	}
	if (!options) {
		print "None."
	}
}

skipping && /^$/ && !seen { next }
skipping && /^$/ { skipping = 0 }
skipping { seen = 1; next }

{ print }

$0 == "## Options" {
	print ""
	print_table()
	skipping = found = 1
}

END {
	if (!failed && !found) {
		die("there is no section \"## Options\"")
	}
	exit failed
}
