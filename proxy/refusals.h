// Answers to requests about a group's positions that are refused, with one error for all of it.
//
// Ownership: they borrow from the request. Threads: any; pure.
#pragma once

#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/error_code.h"

namespace holdfast::proxy {

// A topic of OffsetCommit or TxnOffsetCommit.
template <class Topics, class Topic>
void AddRefused(Topics& topics, const Topic& topic, kafka::ErrorCode error) {
  auto& refused = topics.emplace_back();
  refused.name = topic.name;
  if constexpr (requires { topic.topic_id; }) refused.topic_id = topic.topic_id;
  for (const auto& partition : topic.partitions) {
    refused.partitions.push_back(
        {.partition_index = partition.partition_index, .error_code = error});
  }
}

// Request: one of these.
template <class Request>
typename Request::Response RefusedCommit(const Request& request, kafka::ErrorCode error) {
  typename Request::Response response;
  for (const auto& topic : request.topics) AddRefused(response.topics, topic, error);
  return response;
}

// A topic of OffsetFetch, of all groups or of one.
template <class Topics, class Topic>
void AddRefusedFetch(Topics& topics, const Topic& topic, kafka::ErrorCode error) {
  auto& refused = topics.emplace_back();
  refused.name = topic.name;
  if constexpr (requires { topic.topic_id; }) refused.topic_id = topic.topic_id;
  for (const int32_t index : topic.partition_indexes) {
    refused.partitions.push_back(
        {.partition_index = index, .committed_offset = -1, .metadata = "", .error_code = error});
  }
}

// For the group that it names, or all of them.
inline kafka::OffsetFetchResponse RefusedFetch(const kafka::OffsetFetchRequest& request,
                                               kafka::ErrorCode error) {
  kafka::OffsetFetchResponse response{.error_code = error};
  for (const auto& group : request.groups)
    response.groups.push_back({.group_id = group.group_id, .error_code = error});
  // The oldest version has no other place for it.
  if (!request.topics) return response;
  for (const auto& topic : *request.topics) AddRefusedFetch(response.topics, topic, error);
  return response;
}

}  // namespace holdfast::proxy
