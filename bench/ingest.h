// `holdfast_bench ingest`: a running agent or broker over the Kafka protocol, beside the disk that
// it stands on.
#pragma once

namespace CLI {
class App;
}

namespace holdfast::bench {

void AddIngestCommand(CLI::App& app);

}  // namespace holdfast::bench
