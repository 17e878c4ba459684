#include "agent/stream_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/stream_metrics.h"

namespace holdfast::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CommitPoint Point(const std::string& stream) {
  CommitPoint point{.stream = stream,
                    .confirmed = 40,
                    .end = 42,
                    .tier_offset = 1040,
                    .complete_until_ms = 1'796'056'509'123};
  point.drops.Add({.begin = 3, .end = 8, .bytes = 500});
  return point;
}

TEST(StreamPageTest, WhatTheLedgerHasOfAStream) {
  CommitPoint parked = Point("a.b/11");
  parked.parked = true;
  const std::string page = PrintStreamPage({.streams = {Point("a.b/2"), parked}}, "");
  const std::string labels = "{topic=\"a.b\",partition=\"2\"} ";
  for (const char* line : {"complete_until_timestamp_seconds@1796056509.123",
                           "confirmed_ordinal@40", "tier_offset@1040", "backlog_records@2",
                           "parked@0", "dropped_records_total@5", "dropped_bytes_total@500"}) {
    std::string text = "\nholdfast_agent_stream_" + std::string(line) + "\n";
    text.replace(text.find('@'), 1, labels);
    EXPECT_THAT(page, HasSubstr(text));
  }
  EXPECT_THAT(page, HasSubstr("_parked{topic=\"a.b\",partition=\"11\"} 1\n"));
}

TEST(StreamPageTest, EverySeriesIsOnThePageEvenIfThereIsNoStream) {
  const std::string page = PrintStreamPage({}, "");
  for (const metrics::SeriesInfo& info : metrics::StreamMetrics::List())
    EXPECT_THAT(page, HasSubstr("# HELP " + std::string(info.series.name) + " "));
  EXPECT_THAT(page, HasSubstr("\nholdfast_agent_streams_shown 0\n"));
}

TEST(StreamPageTest, AnOffsetThatIsNotKnownIsLeftOut) {
  CommitPoint point = Point("a/0");
  point.tier_offset = -1;
  EXPECT_THAT(PrintStreamPage({.streams = {point}}, ""), Not(HasSubstr("tier_offset{")));
}

TEST(StreamPageTest, ANameThatIsLostHasNoPartition) {
  EXPECT_THAT(PrintStreamPage({.streams = {Point("?12")}}, ""),
              HasSubstr("_confirmed_ordinal{topic=\"?12\",partition=\"\"} 40\n"));
}

TEST(StreamPageTest, MoreThanItTakesAreCountedAndFoundByTheFilter) {
  const Ledger ledger{.streams = {Point("a/0"), Point("b1/0"), Point("b1/1"), Point("b2/0")}};
  std::string page = PrintStreamPage(ledger, "", 2);
  EXPECT_THAT(page, HasSubstr("\nholdfast_agent_streams_shown 2\n"));
  EXPECT_THAT(page, HasSubstr("\nholdfast_agent_streams_left_out 2\n"));
  EXPECT_THAT(page, HasSubstr("{topic=\"b1\",partition=\"0\"}"));
  EXPECT_THAT(page, Not(HasSubstr("{topic=\"b1\",partition=\"1\"}")));
  page = PrintStreamPage(ledger, "b2", 2);
  EXPECT_THAT(page, HasSubstr("\nholdfast_agent_streams_shown 1\n"));
  EXPECT_THAT(page, HasSubstr("\nholdfast_agent_streams_left_out 0\n"));
  EXPECT_THAT(page, HasSubstr("{topic=\"b2\",partition=\"0\"}"));
  EXPECT_THAT(page, Not(HasSubstr("topic=\"a\"")));
}

TEST(StreamPageTest, TheFilterLooksAtTopicsAndNotAtPartitions) {
  EXPECT_THAT(PrintStreamPage({.streams = {Point("a/0")}}, "/0"),
              HasSubstr("\nholdfast_agent_streams_shown 0\n"));
}

}  // namespace
}  // namespace holdfast::agent
