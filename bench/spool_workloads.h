// `holdfast_bench spool`: durable throughput of the storage engine beside the disk it stands on.
#pragma once

namespace CLI {
class App;
}

namespace holdfast::bench {

void AddSpoolCommand(CLI::App& app);

}  // namespace holdfast::bench
