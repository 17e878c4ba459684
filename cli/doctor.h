// `holdfast doctor`: what an agent of this configuration would meet. It opens each outbox source,
// says everything that is wrong with it, and what to do.
//
// Output goes to standard output. Threads: main, which may block for a database's timeouts.
#pragma once

namespace holdfast::config {
class Config;
}

namespace holdfast::cli {

// Returns the exit code.
int RunDoctor(const config::Config& config);

}  // namespace holdfast::cli
