#include "agent/outbox/table_mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace holdfast::outbox {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Additional = TableMapping::Additional;
using Placement = TableMapping::Placement;

TableMapping Mapped(const std::map<std::string, std::string>& properties,
                    Preset preset = Preset::kDebezium) {
  auto mapping = TableMapping::Of(preset, properties);
  EXPECT_TRUE(mapping) << mapping.error().message;
  return mapping ? *std::move(mapping) : TableMapping();
}

std::string Refusal(const std::map<std::string, std::string>& properties) {
  const auto mapping = TableMapping::Of(Preset::kDebezium, properties);
  EXPECT_FALSE(mapping);
  if (mapping) return "";
  EXPECT_EQ(mapping.error().code, base::Code::kInvalid);
  return mapping.error().message;
}

TEST(TableMapping, Debezium) {
  const TableMapping mapping = Mapped({});
  EXPECT_EQ(mapping.table, "outbox");
  EXPECT_EQ(mapping.topic, "outbox.event.${aggregatetype}");
  EXPECT_FALSE(mapping.tombstone_on_empty_payload);
  EXPECT_EQ(mapping.timestamp, std::nullopt);
  EXPECT_EQ(mapping.json_headers, std::nullopt);
  EXPECT_EQ(mapping.only_null, std::nullopt);
  EXPECT_THAT(mapping.additional, IsEmpty());
  EXPECT_THAT(mapping.Columns(),
              ElementsAre("seq", "id", "aggregatetype", "payload", "aggregateid"));
}

TEST(TableMapping, ATopicIsMadeFromWhatIsRead) {
  TableMapping mapping = Mapped({{"table.fields.additional.placement", "region:header"}});
  const auto refusal = [&mapping](std::string topic) {
    const auto set = mapping.SetTopic(std::move(topic));
    return set ? std::string() : set.error().message;
  };
  for (const char* topic : {"all", "${region}.${aggregatetype}", "${aggregateid}", "$type"})
    EXPECT_EQ(refusal(topic), "") << topic;
  EXPECT_EQ(mapping.topic, "$type");
  EXPECT_EQ(refusal("shop.${routedByValue}"), "");
  EXPECT_EQ(mapping.topic, "shop.${aggregatetype}") << "as among the properties";
  EXPECT_THAT(refusal("${tpye}.${aggregatetype}"),
              AllOf(HasSubstr("`tpye`"), HasSubstr("table.fields.additional.placement")));
  EXPECT_THAT(refusal("${payload}"), HasSubstr("`payload`"));
  EXPECT_EQ(Mapped({{"route.topic.replacement", "a.${tenant}"}}).topic, "a.${tenant}")
      << "it may be a header of LMDB's";
  EXPECT_THAT(Mapped({{"route.topic.replacement", "a.${type}"},
                      {"table.fields.additional.placement", "type:header"}})
                  .topic,
              "a.${type}");
}

TEST(TableMapping, Eventuate) {
  const TableMapping mapping = Mapped({}, Preset::kEventuate);
  EXPECT_EQ(mapping.table, "eventuate.message");
  EXPECT_EQ(mapping.topic, "${aggregatetype}");
  EXPECT_EQ(mapping.key, std::nullopt);
  EXPECT_EQ(mapping.json_headers, "headers");
  EXPECT_EQ(mapping.json_key, "PARTITION_ID");
  EXPECT_THAT(mapping.Columns(),
              ElementsAre("dbid", "id", "destination", "payload", "creation_time", "headers"));
}

TEST(TableMapping, Modulith) {
  const TableMapping mapping = Mapped({}, Preset::kModulith);
  EXPECT_EQ(mapping.table, "event_publication");
  EXPECT_EQ(mapping.topic, "${aggregatetype}");
  EXPECT_EQ(mapping.key, std::nullopt);
  EXPECT_EQ(mapping.only_null, "completion_date");
  EXPECT_THAT(mapping.additional,
              ElementsAre(Additional{"listener_id", Placement::kHeader, "listener_id"}));
  EXPECT_THAT(mapping.Columns(), ElementsAre("seq", "id", "event_type", "serialized_event",
                                             "publication_date", "listener_id"));
}

TEST(TableMapping, EachColumnMayHaveAnotherName) {
  const TableMapping mapping = Mapped({{"table.field.event.position", "nr"},
                                       {"table.field.event.id", "uuid"},
                                       {"table.field.event.key", "customer"},
                                       {"table.field.event.payload", "body"},
                                       {"table.field.event.timestamp", "at"},
                                       {"route.by.field", "kind"}});
  EXPECT_EQ(mapping.position, "nr");
  EXPECT_EQ(mapping.id, "uuid");
  EXPECT_EQ(mapping.key, "customer");
  EXPECT_EQ(mapping.payload, "body");
  EXPECT_EQ(mapping.timestamp, "at");
  EXPECT_EQ(mapping.route, "kind");
  EXPECT_THAT(mapping.Columns(), ElementsAre("nr", "uuid", "kind", "body", "customer", "at"));
}

TEST(TableMapping, KeyAndTimestampMayBeNone) {
  EXPECT_EQ(Mapped({{"table.field.event.key", ""}}).key, std::nullopt);
  EXPECT_EQ(Mapped({{"table.field.event.timestamp", ""}}, Preset::kEventuate).timestamp,
            std::nullopt);
}

TEST(TableMapping, AColumnAsKeyReplacesTheHeadersEntry) {
  const TableMapping mapping =
      Mapped({{"table.field.event.key", "aggregate_id"}}, Preset::kEventuate);
  EXPECT_EQ(mapping.key, "aggregate_id");
  EXPECT_EQ(mapping.json_key, std::nullopt);
  EXPECT_EQ(mapping.json_headers, "headers");
}

TEST(TableMapping, AColumnThatIsUsedTwiceIsReadOnce) {
  const TableMapping mapping =
      Mapped({{"table.field.event.key", "id"},
              {"table.fields.additional.placement", "aggregatetype:header,id:header:event"}});
  EXPECT_THAT(mapping.Columns(), ElementsAre("seq", "id", "aggregatetype", "payload"));
}

TEST(TableMapping, AdditionalColumns) {
  EXPECT_THAT(Mapped({{"table.fields.additional.placement",
                       "eventtype:header, tenant : header : x-tenant ,part:partition"}})
                  .additional,
              ElementsAre(Additional{"eventtype", Placement::kHeader, "eventtype"},
                          Additional{"tenant", Placement::kHeader, "x-tenant"},
                          Additional{"part", Placement::kPartition, "part"}));
  // What is given replaces the preset's.
  EXPECT_THAT(
      Mapped({{"table.fields.additional.placement", "a:header"}}, Preset::kModulith).additional,
      ElementsAre(Additional{"a", Placement::kHeader, "a"}));
}

TEST(TableMapping, PlacementsThatCannotBe) {
  const auto refusal = [](const std::string& placement) {
    return Refusal({{"table.fields.additional.placement", placement}});
  };
  for (const char* text : {"", "type", "type:", ":header", "a:header,", "a:header:b:c"}) {
    EXPECT_THAT(refusal(text), AllOf(StartsWith("table.fields.additional.placement: "),
                                     HasSubstr("is not `column:header`")))
        << text;
  }
  EXPECT_THAT(refusal("a:envelope"), HasSubstr("use `header`"));
  EXPECT_THAT(refusal("a:elsewhere"), HasSubstr("goes to `header` or to `partition`"));
  EXPECT_THAT(refusal("a:partition:alias"), HasSubstr("goes to `header` or to `partition`"));
}

TEST(TableMapping, TopicTemplate) {
  EXPECT_EQ(Mapped({{"route.topic.replacement", "events.${routedByValue}.${routedByValue}"}}).topic,
            "events.${aggregatetype}.${aggregatetype}");
  EXPECT_EQ(Mapped({{"route.topic.replacement", "all"}}).topic, "all");
}

TEST(TableMapping, TombstonesOfEmptyPayloads) {
  const auto tombstones = [](const char* value) {
    return Mapped({{"route.tombstone.on.empty.payload", value}}).tombstone_on_empty_payload;
  };
  EXPECT_TRUE(tombstones("true"));
  EXPECT_FALSE(tombstones("false"));
  EXPECT_THAT(Refusal({{"route.tombstone.on.empty.payload", "yes"}}),
              HasSubstr("`true` or `false`"));
}

TEST(TableMapping, ColumnsThatMustBe) {
  for (const char* name : {"table.field.event.position", "table.field.event.id",
                           "table.field.event.payload", "route.by.field"}) {
    EXPECT_THAT(Refusal({{name, ""}}), AllOf(StartsWith(name), HasSubstr("name is missing")));
  }
}

TEST(TableMapping, UnknownOptionsAreRefused) {
  EXPECT_THAT(Refusal({{"table.field.event.payload.id", "x"}}),
              AllOf(StartsWith("table.field.event.payload.id: no such option"),
                    HasSubstr("route.topic.replacement")));
}

}  // namespace
}  // namespace holdfast::outbox
