#include "broker/records.h"

#include <algorithm>
#include <array>

#include "base/endian.h"
#include "broker/milliseconds.h"
#include "kafka/wire.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;
using std::chrono::milliseconds;

constexpr int16_t kVersion = 0;
// By their number in keys.
constexpr std::array kEntityTypes{kUserEntity, kClientIdEntity, kIpEntity};
constexpr size_t kUuidBytes = sizeof(kafka::Uuid);
constexpr size_t kPartitionBytes = kUuidBytes + sizeof(int32_t);

void AppendUuid(const kafka::Uuid& id, std::string* out) {
  out->append(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
}

template <class T>
void AppendBig(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreBig(bytes, value);
  out->append(bytes, sizeof(T));
}

void AppendPartition(const TopicPartition& partition, std::string* out) {
  AppendUuid(partition.topic, out);
  AppendBig(partition.partition, out);
}

void AppendOffsetPlace(const OffsetKey& key, std::string* out) {
  HF_CHECK(key.group.size() <= kGroupIdBytesMax);
  AppendBig(static_cast<int16_t>(key.group.size()), out);
  out->append(key.group);
  AppendPartition(key.partition, out);
}

TopicPartition LoadPartition(std::string_view bytes) {
  TopicPartition partition;
  std::memcpy(partition.topic.bytes.data(), bytes.data(), kUuidBytes);
  partition.partition = base::LoadBig<int32_t>(bytes.data() + kUuidBytes);
  return partition;
}

template <class Record>
std::string EncodeRecord(const Record& record) {
  kafka::Writer writer(kVersion, /*flexible=*/true);
  writer.Int(kVersion);
  writer.Struct(record);
  return std::string(writer.written());
}

template <class Record>
Result<Record> ParseRecord(std::string_view bytes, std::string_view what) {
  const int16_t version =
      bytes.size() < sizeof(int16_t) ? int16_t{-1} : base::LoadBig<int16_t>(bytes.data());
  if (version < 0) return Unexpected(Code::kCorrupt, std::string(what) + " has no version");
  if (version > kVersion) {
    return Unexpected(Code::kInvalid, std::string(what) + " has version " +
                                          std::to_string(version) +
                                          ": written by a newer holdfast, use that one");
  }
  Record record;
  kafka::Reader reader(bytes.substr(sizeof(int16_t)), version, /*flexible=*/true);
  reader.Struct(record);
  if (!reader.AtEnd()) return Unexpected(Code::kCorrupt, std::string(what) + " is damaged");
  return record;
}

struct StoredProtocol {
  std::string_view name;
  std::string_view metadata;
  kafka::UnknownTags unknown_tags;

  bool operator==(const StoredProtocol&) const = default;
  static void Fields(auto& wire, auto& m) {
    wire(m.name);
    wire.Bytes(m.metadata);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredMember {
  std::string_view member_id;
  std::optional<std::string_view> instance_id;
  std::string_view client_id;
  std::string_view client_host;
  int64_t session_timeout_ms = 0;
  int64_t rebalance_timeout_ms = 0;
  std::vector<StoredProtocol> protocols;
  std::string_view assignment;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.member_id);
    wire(m.instance_id);
    wire(m.client_id);
    wire(m.client_host);
    wire(m.session_timeout_ms);
    wire(m.rebalance_timeout_ms);
    wire(m.protocols);
    wire.Bytes(m.assignment);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredGroup {
  std::string_view protocol_type;
  std::optional<std::string_view> protocol_name;
  std::string_view leader;
  int32_t generation = 0;
  int64_t changed_ms = 0;
  std::vector<StoredMember> members;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.protocol_type);
    wire(m.protocol_name);
    wire(m.leader);
    wire(m.generation);
    wire(m.changed_ms);
    wire(m.members);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredTopic {
  kafka::Uuid id;
  std::vector<int32_t> partitions;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.id);
    wire(m.partitions);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredTopicCount {
  kafka::Uuid id;
  int32_t partitions = 0;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.id);
    wire(m.partitions);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredConsumerGroup {
  int32_t epoch = 0;
  int32_t target_epoch = 0;
  std::vector<StoredTopicCount> topics;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.epoch);
    wire(m.target_epoch);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredClassic {
  int64_t session_timeout_ms = 0;
  std::vector<StoredProtocol> protocols;
  kafka::UnknownTags unknown_tags;

  bool operator==(const StoredClassic&) const = default;
  static void Fields(auto& wire, auto& m) {
    wire(m.session_timeout_ms);
    wire(m.protocols);
    wire.Tags(m.unknown_tags);
  }
};

struct StoredConsumerMember {
  std::string_view member_id;
  std::optional<std::string_view> instance_id;
  std::optional<std::string_view> rack_id;
  std::string_view client_id;
  std::string_view client_host;
  int64_t rebalance_timeout_ms = 0;
  std::vector<std::string_view> topic_names;
  std::string_view topic_pattern;
  std::string_view assignor;
  std::optional<StoredClassic> classic;
  int32_t epoch = 0;
  int32_t previous_epoch = -1;
  int8_t state = 0;
  std::vector<StoredTopic> assigned;
  std::vector<StoredTopic> revoking;
  std::vector<StoredTopic> target;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.member_id);
    wire(m.instance_id);
    wire(m.rack_id);
    wire(m.client_id);
    wire(m.client_host);
    wire(m.rebalance_timeout_ms);
    wire(m.topic_names);
    wire(m.topic_pattern);
    wire(m.assignor);
    wire(m.classic);
    wire(m.epoch);
    wire(m.previous_epoch);
    wire(m.state);
    wire(m.assigned);
    wire(m.revoking);
    wire(m.target);
    wire.Tags(m.unknown_tags);
  }
};

std::vector<StoredTopic> ToStored(const Assignment& assignment) {
  std::vector<StoredTopic> topics;
  for (const TopicPartition& partition : assignment) {
    if (topics.empty() || topics.back().id != partition.topic) {
      topics.push_back({partition.topic, {}, {}});
    }
    topics.back().partitions.push_back(partition.partition);
  }
  return topics;
}

Assignment FromStored(const std::vector<StoredTopic>& topics) {
  Assignment assignment;
  for (const StoredTopic& topic : topics) {
    for (const int32_t partition : topic.partitions) assignment.push_back({topic.id, partition});
  }
  return assignment;
}

std::vector<StoredProtocol> ToStored(const std::vector<GroupProtocol>& protocols) {
  std::vector<StoredProtocol> stored;
  for (const GroupProtocol& protocol : protocols) {
    stored.push_back({protocol.name, protocol.metadata, {}});
  }
  return stored;
}

std::vector<GroupProtocol> FromStored(const std::vector<StoredProtocol>& stored) {
  std::vector<GroupProtocol> protocols;
  for (const StoredProtocol& protocol : stored) {
    protocols.push_back({std::string(protocol.name), std::string(protocol.metadata)});
  }
  return protocols;
}

StoredMember ToStored(const MemberRecord& member) {
  StoredMember stored{.member_id = member.member_id,
                      .instance_id = member.instance_id,
                      .client_id = member.client_id,
                      .client_host = member.client_host,
                      .session_timeout_ms = ToMs(member.session_timeout),
                      .rebalance_timeout_ms = ToMs(member.rebalance_timeout),
                      .protocols = ToStored(member.protocols),
                      .assignment = member.assignment,
                      .unknown_tags = {}};
  return stored;
}

MemberRecord FromStored(const StoredMember& stored) {
  MemberRecord member{.member_id = std::string(stored.member_id),
                      .instance_id = std::optional<std::string>(stored.instance_id),
                      .client_id = std::string(stored.client_id),
                      .client_host = std::string(stored.client_host),
                      .session_timeout = milliseconds(stored.session_timeout_ms),
                      .rebalance_timeout = milliseconds(stored.rebalance_timeout_ms),
                      .protocols = FromStored(stored.protocols),
                      .assignment = std::string(stored.assignment)};
  return member;
}

}  // namespace

std::string TopicNameKey(std::string_view name) { return "n" + std::string(name); }

std::string TopicKey(const kafka::Uuid& id) {
  std::string key(kTopicPrefix);
  AppendUuid(id, &key);
  return key;
}

std::string ProducersKey(const TopicPartition& partition) {
  std::string key(kProducersPrefix);
  AppendPartition(partition, &key);
  return key;
}

std::string GroupKey(std::string_view group) { return std::string(kGroupPrefix).append(group); }

std::string GroupConfigKey(std::string_view group) {
  return std::string(kGroupConfigPrefix).append(group);
}

std::string BrokerConfigKey(BrokerScope scope) {
  std::string key(kBrokerConfigPrefix);
  key.push_back(static_cast<char>(scope));
  return key;
}

std::string ConsumerGroupKey(std::string_view group) {
  return std::string(kConsumerGroupPrefix).append(group);
}

std::string ConsumerMemberKey(std::string_view group, uint64_t number) {
  HF_CHECK(group.size() <= kGroupIdBytesMax);
  std::string key(kConsumerMemberPrefix);
  AppendBig(static_cast<int16_t>(group.size()), &key);
  key.append(group);
  AppendBig(number, &key);
  return key;
}

std::string CommittedOffsetKey(const OffsetKey& key) {
  std::string out(kOffsetPrefix);
  AppendOffsetPlace(key, &out);
  return out;
}

std::string CleanedKey(const TopicPartition& partition) {
  std::string key(kCleanedPrefix);
  AppendPartition(partition, &key);
  return key;
}

std::string EncodeCleaned(int64_t offset) {
  std::string value;
  AppendBig(offset, &value);
  return value;
}

int64_t ParseCleaned(std::string_view bytes) {
  return bytes.size() == sizeof(int64_t) ? base::LoadBig<int64_t>(bytes.data()) : -1;
}

std::string AbortedKey(const TopicPartition& partition) {
  std::string key(kAbortedPrefix);
  AppendPartition(partition, &key);
  return key;
}

std::string TransactionKey(std::string_view transactional_id) {
  HF_CHECK(transactional_id.size() <= kTransactionalIdBytesMax);
  return std::string(kTransactionPrefix).append(transactional_id);
}

std::string AclKey(const Acl& acl) {
  HF_CHECK(acl.name.size() + acl.principal.size() + acl.host.size() <= Acl::kTextBytesMax);
  std::string key(kAclPrefix);
  key.push_back(static_cast<char>(acl.resource));
  key.push_back(static_cast<char>(acl.pattern));
  key.push_back(static_cast<char>(acl.operation));
  key.push_back(static_cast<char>(acl.permission));
  for (const std::string& text : {acl.name, acl.principal}) {
    AppendBig(static_cast<int16_t>(text.size()), &key);
    key.append(text);
  }
  return key.append(acl.host);
}

std::string StoredScramKey(const ScramKey& key) {
  HF_CHECK(key.user.size() <= ScramKey::kNameBytesMax);
  std::string bytes(kScramPrefix);
  bytes.push_back(static_cast<char>(key.mechanism));
  return bytes.append(key.user);
}

std::string StoredQuotaKey(const QuotaEntity& entity) {
  std::string key(kQuotaPrefix);
  for (const auto& [type, name] : entity.parts) {
    const auto found = std::ranges::find(kEntityTypes, type);
    HF_CHECK(found != kEntityTypes.end());
    key.push_back(static_cast<char>(found - kEntityTypes.begin()));
    key.push_back(name ? 1 : 0);
    AppendBig(static_cast<int16_t>(name ? name->size() : 0), &key);
    if (name) key.append(*name);
  }
  return key;
}

std::string TransactionPartitionKey(int64_t producer_id, const TopicPartition& partition) {
  std::string key(kTransactionPartitionPrefix);
  AppendBig(producer_id, &key);
  AppendPartition(partition, &key);
  return key;
}

std::string TransactionGroupKey(int64_t producer_id, std::string_view group) {
  HF_CHECK(group.size() <= kGroupIdBytesMax);
  std::string key(kTransactionGroupPrefix);
  AppendBig(producer_id, &key);
  return key.append(group);
}

std::string TransactionOffsetKey(int64_t producer_id, const OffsetKey& key) {
  std::string out(kTransactionOffsetPrefix);
  AppendBig(producer_id, &out);
  AppendOffsetPlace(key, &out);
  return out;
}

std::optional<TopicPartition> ParseProducersKey(std::string_view key) {
  if (!key.starts_with(kProducersPrefix)) return std::nullopt;
  return ParsePartition(key.substr(kProducersPrefix.size()));
}

std::optional<OffsetKey> ParseOffsetKey(std::string_view key) {
  if (!key.starts_with(kOffsetPrefix)) return std::nullopt;
  return ParseOffsetPlace(key.substr(kOffsetPrefix.size()));
}

std::optional<Acl> ParseAclKey(std::string_view key) {
  if (!key.starts_with(kAclPrefix)) return std::nullopt;
  kafka::Reader reader(key.substr(kAclPrefix.size()));
  Acl acl;
  acl.resource = static_cast<ResourceType>(reader.Int<int8_t>());
  acl.pattern = static_cast<PatternType>(reader.Int<int8_t>());
  acl.operation = static_cast<AclOperation>(reader.Int<int8_t>());
  acl.permission = static_cast<Permission>(reader.Int<int8_t>());
  std::string_view name;
  std::string_view principal;
  reader(name);
  reader(principal);
  if (!reader.ok() || acl.resource < ResourceType::kTopic || acl.resource > ResourceType::kUser) {
    return std::nullopt;
  }
  acl.name = name;
  acl.principal = principal;
  acl.host = reader.rest();
  return acl;
}

std::optional<ScramKey> ParseScramKey(std::string_view key) {
  constexpr size_t kFixedBytes = 2;
  if (!key.starts_with(kScramPrefix) || key.size() < kFixedBytes) return std::nullopt;
  const auto mechanism = static_cast<ScramMechanism>(key[1]);
  if (mechanism != ScramMechanism::kSha256 && mechanism != ScramMechanism::kSha512) {
    return std::nullopt;
  }
  return ScramKey{std::string(key.substr(kFixedBytes)), mechanism};
}

std::optional<QuotaEntity> ParseQuotaKey(std::string_view key) {
  if (!key.starts_with(kQuotaPrefix)) return std::nullopt;
  kafka::Reader reader(key.substr(kQuotaPrefix.size()));
  QuotaEntity entity;
  while (reader.ok() && !reader.AtEnd()) {
    const auto type = static_cast<size_t>(reader.Int<uint8_t>());
    const bool named = reader.Int<int8_t>() != 0;
    std::string_view name;
    reader(name);
    if (!reader.ok() || type >= kEntityTypes.size()) return std::nullopt;
    entity.parts.emplace(kEntityTypes.at(type),
                         named ? std::optional(std::string(name)) : std::nullopt);
  }
  return entity.parts.empty() ? std::nullopt : std::optional(std::move(entity));
}

std::optional<std::pair<std::string_view, uint64_t>> ParseConsumerMemberKey(std::string_view key) {
  constexpr size_t kGroupAt = 1 + sizeof(int16_t);
  if (!key.starts_with(kConsumerMemberPrefix) || key.size() < kGroupAt + sizeof(uint64_t)) {
    return std::nullopt;
  }
  const auto length = static_cast<size_t>(base::LoadBig<uint16_t>(key.data() + 1));
  if (key.size() != kGroupAt + length + sizeof(uint64_t)) return std::nullopt;
  return std::pair(key.substr(kGroupAt, length),
                   base::LoadBig<uint64_t>(key.data() + kGroupAt + length));
}

std::optional<std::pair<int64_t, std::string_view>> ParseTransactionKey(std::string_view key) {
  constexpr size_t kPrefixBytes = 1;
  if (key.size() < kPrefixBytes + sizeof(int64_t)) return std::nullopt;
  return std::pair(base::LoadBig<int64_t>(key.data() + kPrefixBytes),
                   key.substr(kPrefixBytes + sizeof(int64_t)));
}

std::optional<TopicPartition> ParsePartition(std::string_view bytes) {
  if (bytes.size() != kPartitionBytes) return std::nullopt;
  return LoadPartition(bytes);
}

std::optional<OffsetKey> ParseOffsetPlace(std::string_view bytes) {
  if (bytes.size() < sizeof(int16_t) + kPartitionBytes) return std::nullopt;
  const auto length = static_cast<size_t>(base::LoadBig<uint16_t>(bytes.data()));
  if (bytes.size() != sizeof(int16_t) + length + kPartitionBytes) return std::nullopt;
  return OffsetKey{bytes.substr(sizeof(int16_t), length),
                   LoadPartition(bytes.substr(sizeof(int16_t) + length))};
}

std::string Encode(const TopicRecord& record) { return EncodeRecord(record); }
std::string Encode(const OffsetRecord& record) { return EncodeRecord(record); }
std::string Encode(const ConfigsRecord& record) { return EncodeRecord(record); }
std::string Encode(const TransactionRecord& record) { return EncodeRecord(record); }
std::string Encode(const AclRecord& record) { return EncodeRecord(record); }
std::string Encode(const ScramRecord& record) { return EncodeRecord(record); }
std::string Encode(const QuotaRecord& record) { return EncodeRecord(record); }

std::string Encode(const GroupRecord& record) {
  StoredGroup stored{.protocol_type = record.protocol_type,
                     .protocol_name = record.protocol_name,
                     .leader = record.leader,
                     .generation = record.generation,
                     .changed_ms = record.changed_ms,
                     .members = {},
                     .unknown_tags = {}};
  for (const MemberRecord& member : record.members) stored.members.push_back(ToStored(member));
  return EncodeRecord(stored);
}

std::string Encode(const ConsumerGroupRecord& record) {
  StoredConsumerGroup stored{
      .epoch = record.epoch, .target_epoch = record.target_epoch, .topics = {}, .unknown_tags = {}};
  for (const SubscribedTopic& topic : record.topics) {
    stored.topics.push_back({topic.id, topic.partitions, {}});
  }
  return EncodeRecord(stored);
}

std::string Encode(const ConsumerMemberRecord& record) {
  StoredConsumerMember stored{.member_id = record.member_id,
                              .instance_id = record.instance_id,
                              .rack_id = record.rack_id,
                              .client_id = record.client_id,
                              .client_host = record.client_host,
                              .rebalance_timeout_ms = ToMs(record.rebalance_timeout),
                              .topic_names = {},
                              .topic_pattern = record.topic_pattern,
                              .assignor = record.assignor,
                              .classic = {},
                              .epoch = record.current.epoch,
                              .previous_epoch = record.current.previous_epoch,
                              .state = static_cast<int8_t>(record.current.state),
                              .assigned = ToStored(record.current.assigned),
                              .revoking = ToStored(record.current.revoking),
                              .target = ToStored(record.target),
                              .unknown_tags = {}};
  stored.topic_names.assign(record.topic_names.begin(), record.topic_names.end());
  if (record.classic) {
    stored.classic = {
        ToMs(record.classic->session_timeout), ToStored(record.classic->protocols), {}};
  }
  return EncodeRecord(stored);
}

Result<ConsumerGroupRecord> ParseConsumerGroup(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(const StoredConsumerGroup stored,
                      ParseRecord<StoredConsumerGroup>(bytes, "the record of a consumer group"));
  ConsumerGroupRecord record{.epoch = stored.epoch, .target_epoch = stored.target_epoch};
  for (const StoredTopicCount& topic : stored.topics) {
    record.topics.push_back({topic.id, topic.partitions});
  }
  return record;
}

Result<ConsumerMemberRecord> ParseConsumerMember(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(
      const StoredConsumerMember stored,
      ParseRecord<StoredConsumerMember>(bytes, "the record of a consumer group's member"));
  ConsumerMemberRecord record{.member_id = std::string(stored.member_id),
                              .instance_id = std::optional<std::string>(stored.instance_id),
                              .rack_id = std::optional<std::string>(stored.rack_id),
                              .client_id = std::string(stored.client_id),
                              .client_host = std::string(stored.client_host),
                              .rebalance_timeout = milliseconds(stored.rebalance_timeout_ms)};
  record.topic_names.assign(stored.topic_names.begin(), stored.topic_names.end());
  record.topic_pattern = stored.topic_pattern;
  record.assignor = stored.assignor;
  if (stored.classic) {
    record.classic = {milliseconds(stored.classic->session_timeout_ms),
                      FromStored(stored.classic->protocols)};
  }
  record.current = {.epoch = stored.epoch,
                    .previous_epoch = stored.previous_epoch,
                    .state = static_cast<MemberState>(stored.state),
                    .assigned = FromStored(stored.assigned),
                    .revoking = FromStored(stored.revoking)};
  record.target = FromStored(stored.target);
  return record;
}

Result<TopicRecord> ParseTopic(std::string_view bytes) {
  return ParseRecord<TopicRecord>(bytes, "the record of a topic");
}

Result<OffsetRecord> ParseOffset(std::string_view bytes) {
  return ParseRecord<OffsetRecord>(bytes, "a committed offset");
}

Result<ConfigsRecord> ParseConfigs(std::string_view bytes) {
  return ParseRecord<ConfigsRecord>(bytes, "the settings of a group or the broker");
}

Result<TransactionRecord> ParseTransaction(std::string_view bytes) {
  return ParseRecord<TransactionRecord>(bytes, "the record of a transaction");
}

Result<AclRecord> ParseAcl(std::string_view bytes) {
  return ParseRecord<AclRecord>(bytes, "an access rule");
}

Result<ScramRecord> ParseScram(std::string_view bytes) {
  return ParseRecord<ScramRecord>(bytes, "a SCRAM credential");
}

Result<QuotaRecord> ParseQuota(std::string_view bytes) {
  return ParseRecord<QuotaRecord>(bytes, "a quota");
}

Result<GroupRecord> ParseGroup(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(const StoredGroup stored,
                      ParseRecord<StoredGroup>(bytes, "the record of a group"));
  GroupRecord record{.protocol_type = std::string(stored.protocol_type),
                     .protocol_name = std::optional<std::string>(stored.protocol_name),
                     .leader = std::string(stored.leader),
                     .generation = stored.generation,
                     .changed_ms = stored.changed_ms,
                     .members = {}};
  for (const StoredMember& member : stored.members) record.members.push_back(FromStored(member));
  return record;
}

}  // namespace holdfast::broker
