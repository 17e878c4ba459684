// DescribeCluster (key 60): the brokers of the cluster and its id.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeClusterResponse;

struct DescribeClusterRequest final {
  static constexpr Api kApi{
      .key = 60, .name = "DescribeCluster", .oldest = 0, .newest = 2, .flexible = 0};
  using Response = DescribeClusterResponse;

  bool include_cluster_authorized_operations = false;
  int8_t endpoint_type = 1;
  bool include_fenced_brokers = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.include_cluster_authorized_operations);
    wire(m.endpoint_type, {.since = 1});
    wire(m.include_fenced_brokers, {.since = 2});
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeClusterResponse final {
  static constexpr Api kApi = DescribeClusterRequest::kApi;

  struct DescribeClusterBroker {
    int32_t broker_id = 0;
    std::string_view host;
    int32_t port = 0;
    std::optional<std::string_view> rack;
    bool is_fenced = false;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.broker_id);
      wire(m.host);
      wire(m.port);
      wire(m.rack);
      wire(m.is_fenced, {.since = 2});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  int8_t endpoint_type = 1;
  std::string_view cluster_id;
  int32_t controller_id = -1;
  std::vector<DescribeClusterBroker> brokers;
  int32_t cluster_authorized_operations = std::numeric_limits<int32_t>::min();
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.endpoint_type, {.since = 1});
    wire(m.cluster_id);
    wire(m.controller_id);
    wire(m.brokers);
    wire(m.cluster_authorized_operations);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
