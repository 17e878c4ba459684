#include "broker/consumer_protocol.h"

#include <algorithm>

#include "base/endian.h"
#include "kafka/wire.h"

namespace holdfast::broker {
namespace {

constexpr int16_t kNewest = 3;

// Behind the version.
template <class Body>
std::optional<Body> Parse(std::string_view bytes, int16_t* version) {
  if (bytes.size() < sizeof(int16_t)) return std::nullopt;
  *version = base::LoadBig<int16_t>(bytes.data());
  if (*version < 0) return std::nullopt;
  kafka::Reader reader(bytes.substr(sizeof(int16_t)), std::min(*version, kNewest));
  Body body;
  reader.Struct(body);
  if (!reader.ok()) return std::nullopt;
  return body;
}

}  // namespace

std::optional<ConsumerSubscription> ParseSubscription(std::string_view bytes) {
  int16_t version = 0;
  auto subscription = Parse<ConsumerSubscription>(bytes, &version);
  if (subscription) subscription->version = version;
  return subscription;
}

std::optional<ConsumerAssignment> ParseConsumerAssignment(std::string_view bytes) {
  // Nothing was assigned.
  if (bytes.empty()) return ConsumerAssignment();
  int16_t version = 0;
  return Parse<ConsumerAssignment>(bytes, &version);
}

std::string EncodeConsumerAssignment(int16_t version, const std::vector<TopicPartitions>& topics) {
  const int16_t used = std::clamp(version, int16_t{0}, kNewest);
  kafka::Writer writer(used);
  writer.Int(used);
  writer.Struct(ConsumerAssignment{topics, std::nullopt});
  return std::string(writer.written());
}

}  // namespace holdfast::broker
