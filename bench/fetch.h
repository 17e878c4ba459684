#pragma once

namespace CLI {
class App;
}

namespace holdfast::bench {

void AddFetchCommand(CLI::App& app);

}  // namespace holdfast::bench
