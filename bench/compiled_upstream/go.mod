module compiled_upstream

go 1.21
