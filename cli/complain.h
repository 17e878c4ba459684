// What a command says on standard error when it failed: "holdfast: HF2001: <what, and what to do>",
// with the code of docs/errors.md. To a person at a terminal it names `holdfast explain`, too.
//
// A standard error that cannot be written to changes nothing.
//
// Threads: any; one line at a time is up to the caller.
#pragma once

#include <string_view>

#include "base/result.h"

namespace holdfast::cli {

// Something to know, which is no error.
void Complain(std::string_view message);
void Complain(const base::Error& error);

// Complains, and returns the exit code.
int Fail(int exit_code, const base::Error& error);

// `holdfast explain CODE`: what the code means and what to do, or all codes if it is empty. Returns
// the exit code.
int Explain(std::string_view code);

}  // namespace holdfast::cli
