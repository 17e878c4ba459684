#include "broker/catalog.h"

#include <algorithm>
#include <cstring>

#include "base/event.h"
#include "base/log.h"
#include "base/random.h"
#include "broker/config_values.h"

namespace holdfast::broker {

const Topic* Topics::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const Topic* Topics::Find(const kafka::Uuid& id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second.get();
}

std::vector<const Topic*> Topics::All() const {
  std::vector<const Topic*> all;
  all.reserve(by_id_.size());
  for (const auto& [id, topic] : by_id_) all.push_back(topic.get());
  std::ranges::sort(all, {}, &Topic::name);
  return all;
}

size_t Topics::partitions() const {
  size_t count = 0;
  for (const auto& [id, topic] : by_id_) count += topic->partitions.size();
  return count;
}

void Topics::Put(std::shared_ptr<const Topic> topic) {
  Erase(topic->id);
  by_name_[topic->name] = topic.get();
  by_id_[topic->id] = std::move(topic);
}

void Topics::Erase(const kafka::Uuid& id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return;
  by_name_.erase(found->second->name);
  by_id_.erase(found);
}

TopicConfig ReadConfig(const TopicRecord& record) {
  TopicConfig read;
  for (const auto& config : record.configs) {
    if (const auto set = read.Set(config.name, KeptValue(config.name, config.value)); !set) {
      base::Log(base::Event::kTopicSettingLeftOut, {"broker", record.name}, "left out: {}",
                set.error().message);
    }
  }
  return read;
}

kafka::Uuid MakeUuid() {
  base::Random random = base::Random::FromSystem();
  kafka::Uuid id;
  do {
    for (size_t at = 0; at < id.bytes.size(); at += sizeof(uint64_t)) {
      // Each half from its own seed, so that the whole has more than 64 random bits.
      const uint64_t half = random() ^ base::Random::FromSystem()();
      std::memcpy(id.bytes.data() + at, &half, sizeof(half));
    }
    id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);  // RFC 4122, version 4.
    id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  } while (id.ToString().starts_with('-'));
  return id;
}

}  // namespace holdfast::broker
