#include "broker/consumer_protocol.h"

#include <algorithm>

#include "base/endian.h"
#include "kafka/wire.h"

namespace holdfast::broker {
namespace {

constexpr int16_t kNewest = 3;

struct AssignmentBody {
  std::vector<TopicPartitions> topics;
  std::optional<std::string_view> user_data;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire.Bytes(m.user_data);
  }
};

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

std::optional<std::vector<TopicPartitions>> ParseConsumerAssignment(std::string_view bytes) {
  // Nothing was assigned.
  if (bytes.empty()) return std::vector<TopicPartitions>();
  int16_t version = 0;
  auto body = Parse<AssignmentBody>(bytes, &version);
  if (!body) return std::nullopt;
  return std::move(body->topics);
}

std::string EncodeConsumerAssignment(int16_t version, const std::vector<TopicPartitions>& topics) {
  const int16_t used = std::clamp(version, int16_t{0}, kNewest);
  kafka::Writer writer(used);
  writer.Int(used);
  writer.Struct(AssignmentBody{topics, std::nullopt});
  return std::string(writer.written());
}

}  // namespace holdfast::broker
