#include "metrics/series_text.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>

namespace holdfast::metrics {
namespace {

constexpr SeriesInfo kOfTwo{{.name = "of_two", .help = "Two.", .label = "topic,partition"},
                            SeriesType::kGauge};

std::string Print(const SeriesText& series) {
  std::ostringstream page;
  series.PrintTo(page);
  return std::move(page).str();
}

TEST(SeriesTextTest, ValuesAreExactAndLabelsAreEscaped) {
  SeriesText series(kOfTwo);
  series.Add({"orders", "0"}, 1796056509.123);
  series.Add({"a\"b\\c\nd", "1"}, 9007199254740991);
  EXPECT_EQ(Print(series),
            "# HELP of_two Two.\n"
            "# TYPE of_two gauge\n"
            "of_two{topic=\"orders\",partition=\"0\"} 1796056509.123\n"
            "of_two{topic=\"a\\\"b\\\\c\\nd\",partition=\"1\"} 9007199254740991\n");
}

TEST(SeriesTextTest, ACounterWithoutLabels) {
  SeriesText series({{.name = "one_total", .help = "One."}, SeriesType::kCounter});
  series.Add({}, 3);
  EXPECT_EQ(Print(series), "# HELP one_total One.\n# TYPE one_total counter\none_total 3\n");
}

TEST(SeriesTextTest, WithoutAValueThereIsTheHead) {
  EXPECT_EQ(Print(SeriesText(kOfTwo)), "# HELP of_two Two.\n# TYPE of_two gauge\n");
}

}  // namespace
}  // namespace holdfast::metrics
