// `holdfast_bench catchup`: what a cold consumer reads.
#pragma once

namespace CLI {
class App;
}

namespace holdfast::bench {

void AddCatchupCommand(CLI::App& app);

}  // namespace holdfast::bench
