// `holdfast_bench curve`: partitions against durable throughput, of whatever speaks the Kafka
// protocol.
#pragma once

namespace CLI {
class App;
}

namespace holdfast::bench {

void AddCurveCommand(CLI::App& app);

}  // namespace holdfast::bench
