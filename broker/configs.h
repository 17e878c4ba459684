// DescribeConfigs and ListConfigResources: the settings of topics, groups and the broker, under
// Kafka's names.
//
// Threads: plain functions on immutable values.
#pragma once

#include "broker/broker_config.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

// What has settings, as Kafka numbers it. Of loggers and client metrics there are none here.
inline constexpr int8_t kTopicResource = 2;
inline constexpr int8_t kBrokerResource = 4;
inline constexpr int8_t kBrokerLoggerResource = 8;
inline constexpr int8_t kClientMetricsResource = 16;
inline constexpr int8_t kGroupResource = 32;

// The broker's advertised.listeners is the address that this caller's listener gives to clients.
kafka::DescribeConfigsResponse DescribeConfigs(const Options& options, const Topics& topics,
                                               const GroupConfigs& groups,
                                               const BrokerConfig& broker,
                                               const kafka::Caller& caller,
                                               const kafka::DescribeConfigsRequest& request);

kafka::ListConfigResourcesResponse ListConfigResources(
    const Options& options, const Topics& topics, const GroupConfigs& groups, int16_t version,
    const kafka::ListConfigResourcesRequest& request);

// The settings of a topic for the answer to its creation.
std::vector<kafka::CreateTopicsResponse::CreatableTopicConfigs> CreatedConfigs(
    const Options& options, const BrokerConfig& broker, const TopicConfig& config,
    kafka::Strings* strings);

}  // namespace holdfast::broker
