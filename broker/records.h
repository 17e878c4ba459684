// What the broker keeps in the spool's state: keys, and the values under them.
//
//   c                                          the cluster's name
//   k                                          the key of SCRAM's salts (LoginUsers), 32 bytes
//   i                                          the first producer id not yet given out, int64
//   n <topic name>                             the topic's id
//   t <topic id>                               TopicRecord
//   p <topic id> <partition, int32>            kafka::ProducerTable as of the segment's beginning
//   g <group id>                               GroupRecord (broker/group.h)
//   G <group id>                               ConsumerGroupRecord (consumer_group_records.h)
//   M <length, int16> <group id> <member's number, int64>         ConsumerMemberRecord
//   S <group id>                               ConfigsRecord
//   b <BrokerScope, int8>                     ConfigsRecord
//   o <length, int16> <group id> <topic id> <partition, int32>    OffsetRecord
//   a <topic id> <partition, int32>            TransactionIndex as of the segment's beginning
//   d <topic id> <partition, int32>            int64: entries below that offset were compacted
//   x <transactional id>                       TransactionRecord
//   r <type, pattern, operation, permission: int8 each> <length, int16> <name>
//     <length, int16> <principal> <host>       AclRecord: the key says it all
//   s <mechanism, int8> <user>                 ScramRecord
//   q <type, int8: user, client-id or ip> <named, int8> <length, int16> <name> ...
//                                              QuotaRecord; one such part for each type
// and of each open transaction, under the id of its producer:
//   y <producer id, int64> <topic id> <partition, int32>          empty: it writes there
//   w <producer id, int64> <group id>                             empty: it commits its offsets
//   z <producer id, int64> <length, int16> <group id> <topic id> <partition, int32>
//                                              OffsetRecord, in force when it is committed
//
// Integers are big-endian. A value begins with its version, int16; then follow its fields in the
// flexible encoding of Kafka's messages, so that a later version may add some. The cluster's name,
// the key of salts, ids and offsets under d stand alone, without a version.
//
// Threads: values only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "broker/acls.h"
#include "broker/consumer_group_records.h"
#include "broker/group.h"
#include "broker/quotas.h"
#include "broker/scram_credentials.h"
#include "broker/topic_partition.h"
#include "kafka/message.h"

namespace holdfast::broker {

inline constexpr std::string_view kClusterIdKey = "c";
inline constexpr std::string_view kSaltKeyKey = "k";
inline constexpr std::string_view kProducerIdKey = "i";
inline constexpr std::string_view kTopicPrefix = "t";
inline constexpr std::string_view kProducersPrefix = "p";
inline constexpr std::string_view kGroupPrefix = "g";
inline constexpr std::string_view kConsumerGroupPrefix = "G";
inline constexpr std::string_view kConsumerMemberPrefix = "M";
inline constexpr std::string_view kGroupConfigPrefix = "S";
inline constexpr std::string_view kBrokerConfigPrefix = "b";
inline constexpr std::string_view kOffsetPrefix = "o";
inline constexpr std::string_view kAbortedPrefix = "a";
inline constexpr std::string_view kCleanedPrefix = "d";
inline constexpr std::string_view kTransactionPrefix = "x";
inline constexpr std::string_view kAclPrefix = "r";
inline constexpr std::string_view kScramPrefix = "s";
inline constexpr std::string_view kQuotaPrefix = "q";
inline constexpr std::string_view kTransactionPartitionPrefix = "y";
inline constexpr std::string_view kTransactionGroupPrefix = "w";
inline constexpr std::string_view kTransactionOffsetPrefix = "z";

// The spool's keys have at most 511 bytes.
inline constexpr size_t kGroupIdBytesMax = 400;
inline constexpr size_t kTransactionalIdBytesMax = 400;

// For whom settings of the broker are.
enum class BrokerScope : int8_t { kAll = 0, kThis = 1 };
inline constexpr std::array kBrokerScopes{BrokerScope::kAll, BrokerScope::kThis};

struct OffsetKey {
  std::string_view group;
  TopicPartition partition;
};

std::string TopicNameKey(std::string_view name);
std::string TopicKey(const kafka::Uuid& id);
std::string ProducersKey(const TopicPartition& partition);
std::string GroupKey(std::string_view group);
std::string GroupConfigKey(std::string_view group);
std::string BrokerConfigKey(BrokerScope scope);
std::string ConsumerGroupKey(std::string_view group);
std::string ConsumerMemberKey(std::string_view group, uint64_t number);
std::string CommittedOffsetKey(const OffsetKey& key);
std::string AbortedKey(const TopicPartition& partition);
std::string CleanedKey(const TopicPartition& partition);
std::string TransactionKey(std::string_view transactional_id);
std::string AclKey(const Acl& acl);
std::string StoredScramKey(const ScramKey& key);
std::string StoredQuotaKey(const QuotaEntity& entity);
std::string TransactionPartitionKey(int64_t producer_id, const TopicPartition& partition);
std::string TransactionGroupKey(int64_t producer_id, std::string_view group);
std::string TransactionOffsetKey(int64_t producer_id, const OffsetKey& key);

// The other way, from whole keys; nothing if the key is not of its kind.
std::optional<TopicPartition> ParseProducersKey(std::string_view key);
std::optional<OffsetKey> ParseOffsetKey(std::string_view key);
std::optional<Acl> ParseAclKey(std::string_view key);
// The group and the member's number.
std::optional<std::pair<std::string_view, uint64_t>> ParseConsumerMemberKey(std::string_view key);
std::optional<ScramKey> ParseScramKey(std::string_view key);
std::optional<QuotaEntity> ParseQuotaKey(std::string_view key);
// The producer id of a y, w or z key, and what follows it.
std::optional<std::pair<int64_t, std::string_view>> ParseTransactionKey(std::string_view key);
std::optional<TopicPartition> ParsePartition(std::string_view bytes);
// Length, group, topic and partition, as they stand in o and z keys.
std::optional<OffsetKey> ParseOffsetPlace(std::string_view bytes);

struct TopicRecord {
  struct Partition {
    uint32_t stream = 0;
    int32_t leader_epoch = 0;
    kafka::UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.stream);
      wire(m.leader_epoch);
      wire.Tags(m.unknown_tags);
    }
  };
  struct Config {
    std::string_view name;
    std::string_view value;
    kafka::UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.value);
      wire.Tags(m.unknown_tags);
    }
  };

  kafka::Uuid id;
  std::string_view name;
  std::vector<Partition> partitions;
  std::vector<Config> configs;  // Those that were set.
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.id);
    wire(m.name);
    wire(m.partitions);
    wire(m.configs);
    wire.Tags(m.unknown_tags);
  }
};

struct OffsetRecord {
  int64_t offset = -1;
  int32_t leader_epoch = -1;
  std::string_view metadata;
  int64_t commit_ms = 0;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.offset);
    wire(m.leader_epoch);
    wire(m.metadata);
    wire(m.commit_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct ConfigsRecord {
  std::vector<TopicRecord::Config> configs;  // Those that were set.
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.configs);
    wire.Tags(m.unknown_tags);
  }
};

struct TransactionRecord {
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  int64_t previous_producer_id = -1;
  int16_t last_producer_epoch = -1;
  int32_t timeout_ms = 0;
  int8_t state = 0;  // As Kafka numbers them.
  int64_t start_ms = -1;
  int64_t update_ms = 0;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.producer_id);
    wire(m.producer_epoch);
    wire(m.previous_producer_id);
    wire(m.last_producer_epoch);
    wire(m.timeout_ms);
    wire(m.state);
    wire(m.start_ms);
    wire(m.update_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct AclRecord {
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) { wire.Tags(m.unknown_tags); }
};

struct ScramRecord {
  std::string_view salt;
  std::string_view stored_key;
  std::string_view server_key;
  int32_t iterations = 0;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire.Bytes(m.salt);
    wire.Bytes(m.stored_key);
    wire.Bytes(m.server_key);
    wire(m.iterations);
    wire.Tags(m.unknown_tags);
  }
};

struct QuotaRecord {
  struct Value {
    std::string_view key;
    double value = 0;
    kafka::UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.key);
      wire(m.value);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<Value> values;
  kafka::UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.values);
    wire.Tags(m.unknown_tags);
  }
};

// Parsed records borrow from the bytes. kCorrupt: damaged. kInvalid: a newer version wrote them.
std::string EncodeCleaned(int64_t offset);
// -1 if it is none.
int64_t ParseCleaned(std::string_view bytes);
std::string Encode(const TopicRecord& record);
std::string Encode(const OffsetRecord& record);
std::string Encode(const GroupRecord& record);
std::string Encode(const ConsumerGroupRecord& record);
std::string Encode(const ConsumerMemberRecord& record);
std::string Encode(const ConfigsRecord& record);
std::string Encode(const TransactionRecord& record);
std::string Encode(const AclRecord& record);
std::string Encode(const ScramRecord& record);
std::string Encode(const QuotaRecord& record);
base::Result<TopicRecord> ParseTopic(std::string_view bytes);
base::Result<OffsetRecord> ParseOffset(std::string_view bytes);
base::Result<GroupRecord> ParseGroup(std::string_view bytes);
base::Result<ConsumerGroupRecord> ParseConsumerGroup(std::string_view bytes);
// Without its number, which is in the key.
base::Result<ConsumerMemberRecord> ParseConsumerMember(std::string_view bytes);
base::Result<ConfigsRecord> ParseConfigs(std::string_view bytes);
base::Result<TransactionRecord> ParseTransaction(std::string_view bytes);
base::Result<AclRecord> ParseAcl(std::string_view bytes);
base::Result<ScramRecord> ParseScram(std::string_view bytes);
base::Result<QuotaRecord> ParseQuota(std::string_view bytes);

}  // namespace holdfast::broker
