#include "metrics/catalogue.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "metrics/stream_metrics.h"
#include "tests/support/printed_table.h"
#include "tests/support/source_path.h"

namespace holdfast::metrics {
namespace {

std::string_view TypeName(SeriesType type) {
  switch (type) {
    case SeriesType::kCounter:
      return "counter";
    case SeriesType::kGauge:
      return "gauge";
    case SeriesType::kHistogram:
      return "histogram";
  }
  return "";
}

class CatalogueTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<SeriesInfo> All() const {
    std::vector<SeriesInfo> all = registry_.List();
    for (const SeriesInfo& info : StreamMetrics::List()) all.push_back(info);
    return all;
  }

  Registry registry_;
  NetMetrics net_{registry_};
  SpoolMetrics spool_{registry_};
  BrokerMetrics broker_{registry_};
  AgentMetrics agent_{registry_};
  OutboxMetrics outbox_{registry_};
  HalfMessageMetrics half_{registry_};
  InjectMetrics inject_{registry_};
  OrphanMetrics orphans_{registry_};
};

// What operators build dashboards and alerts on. If a series is meant to change, put the list that
// the failure prints into the file.
TEST_F(CatalogueTest, SeriesAreThoseOfTheGoldenList) {
  std::ostringstream list;
  for (const SeriesInfo& info : All()) {
    list << info.series.name;
    if (!info.series.label.empty()) list << '{' << info.series.label << '}';
    list << ' ' << TypeName(info.type) << ": " << info.series.help << '\n';
  }
  const std::string path = test::SourcePath("tests/golden/metrics.txt");
  std::ifstream file(path);
  std::ostringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(golden.str(), list.str()) << "differs from " << path;
}

TEST_F(CatalogueTest, NamesFollowThePrometheusRules) {
  for (const SeriesInfo& info : All()) {
    const std::string_view name = info.series.name;
    EXPECT_TRUE(name.starts_with("holdfast_")) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos)
        << name;
    EXPECT_EQ(name.ends_with("_total"), info.type == SeriesType::kCounter) << name;
    EXPECT_TRUE(info.series.help.ends_with('.')) << name;
  }
}

TEST_F(CatalogueTest, EverySeriesIsExposed) {
  const std::string page = registry_.Expose();
  for (const SeriesInfo& info : registry_.List()) {
    EXPECT_NE(page.find("# HELP " + std::string(info.series.name) + " "), std::string::npos)
        << info.series.name;
  }
}

// After a change of StreamMetrics:
//   HOLDFAST_PRINT=1 build/dev/tests/metrics/metrics_test --gtest_filter='*TableOfStreams*'
TEST_F(CatalogueTest, TheTableOfStreamsIsWhatTheCatalogueSays) {
  std::ostringstream table;
  table << "| series | type | labels | tells |\n| --- | --- | --- | --- |\n";
  for (const SeriesInfo& info : StreamMetrics::List()) {
    table << "| `" << info.series.name << "` | " << TypeName(info.type) << " | "
          << (info.series.label.empty() ? "" : "`topic`, `partition`") << " | " << info.series.help
          << " |\n";
  }
  test::ExpectPrinted("docs/operations.md", "metrics/catalogue.cc", table.str());
}

}  // namespace
}  // namespace holdfast::metrics
