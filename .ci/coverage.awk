# Counts the lines of each crate in a file of lcov, without the unit tests at the ends of source files. With -v missing=1
# it also prints the lines that nothing executes.

/^SF:/ {
    path = substr($0, 4)
    file = substr(path, length(root) + 1)
    crate = "tower-inqud"
    if (file ~ /^crates\//) {
        split(file, parts, "/")
        crate = parts[2]
    }
    end = 0
    number = 0
    while (!end && (getline line < path) > 0) {
        number++
        if (line == "#[cfg(test)]" && (getline line < path) > 0) {
            number++
            if (line ~ /^mod tests/) end = number - 1
        }
    }
    close(path)
}

/^DA:/ {
    split(substr($0, 4), its, ",")
    if (end && its[1] + 0 >= end) next
    lines[crate]++
    if (its[2] > 0) executed[crate]++
    else if (missing) print file ":" its[1]
}

function row(name, all, run) {
    printf "| %s | %d | %d | %.1f |\n", name, all, run, all ? 100 * run / all : 0
}

END {
    print "\n| crate | lines | executed | % |\n| --- | --- | --- | --- |"
    count = split("tower-inqud inqud-inbox inqud-mock inqud-api inqud-webhook", crates, " ")
    for (i = 1; i <= count; i++) {
        row(crates[i], lines[crates[i]], executed[crates[i]])
        all += lines[crates[i]]
        run += executed[crates[i]]
    }
    row("all", all, run)
}
