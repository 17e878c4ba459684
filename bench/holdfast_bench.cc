// The benchmarks, one subcommand each. For a quiet machine; figures are ratios to the same disk in
// the same run. docs/performance.md has what they showed.
#include <CLI/CLI.hpp>

#include "bench/catchup.h"
#include "bench/curve.h"
#include "bench/fetch.h"
#include "bench/ingest.h"
#include "bench/spool_workloads.h"

int main(int argc, char** argv) {
  CLI::App app("Holdfast's benchmarks");
  app.require_subcommand(1);
  holdfast::bench::AddCatchupCommand(app);
  holdfast::bench::AddCurveCommand(app);
  holdfast::bench::AddIngestCommand(app);
  holdfast::bench::AddFetchCommand(app);
  holdfast::bench::AddSpoolCommand(app);
  CLI11_PARSE(app, argc, argv);
  return 0;
}
