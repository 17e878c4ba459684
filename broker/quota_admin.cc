#include "broker/quota_admin.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "broker/topic_changes.h"
#include "kafka/error_map.h"
#include "net/address.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;
using Component = kafka::DescribeClientQuotasRequest::ComponentData;

enum class Match : int8_t { kExact = 0, kDefault = 1, kSpecified = 2 };

TopicOutcome Refuse(std::string message) {
  return {ErrorCode::kInvalidRequest, std::move(message)};
}

bool KnownType(std::string_view type) {
  return type == kUserEntity || type == kClientIdEntity || type == kIpEntity;
}

// In the order of Kafka's checks, and with its codes.
TopicOutcome ReadEntity(const kafka::AlterClientQuotasRequest::EntryData& entry,
                        QuotaEntity* entity) {
  if (entry.entity.empty()) return Refuse("Invalid empty client quota entity");
  size_t bytes = 0;
  for (const auto& part : entry.entity) {
    if (!KnownType(part.entity_type)) {
      return Refuse("Unhandled client quota entity type: " + std::string(part.entity_type));
    }
    if (part.entity_name && part.entity_name->empty()) {
      return Refuse("Empty " + std::string(part.entity_type) + " not supported");
    }
    const auto name =
        part.entity_name ? std::optional(std::string(*part.entity_name)) : std::nullopt;
    bytes += name ? name->size() : 0;
    entity->parts.insert_or_assign(std::string(part.entity_type), name);  // The last one counts.
  }
  if (bytes > QuotaEntity::kNameBytesMax) {
    return Refuse("The names of a quota's entity have more than " +
                  std::to_string(QuotaEntity::kNameBytesMax) + " bytes together");
  }
  const auto ip = entity->parts.find(kIpEntity);
  if (ip == entity->parts.end()) return {};
  if (entity->parts.size() > 1) {
    return Refuse(
        "Invalid quota entity combination, IP entity should not be combined with User or "
        "ClientId");
  }
  if (ip->second && !net::SocketAddress::FromIp(*ip->second, 0)) {
    return Refuse(*ip->second + " is not a valid IP");
  }
  return {};
}

TopicOutcome CheckValue(const QuotaEntity& entity, std::string_view key, double value) {
  constexpr double kIntMax = 2147483647.0;
  constexpr double kLongMax = 9.223372036854775e18;
  constexpr double kRoundingMax = 1e-6;
  const std::string name(key);
  const bool of_ip = entity.parts.contains(kIpEntity);
  const bool is_int = of_ip && key == "connection_creation_rate";
  const bool is_long = !of_ip && (key == "producer_byte_rate" || key == "consumer_byte_rate");
  const bool is_double =
      !of_ip && (key == "request_percentage" || key == "controller_mutation_rate");
  if (!is_int && !is_long && !is_double) return Refuse("Invalid configuration key " + name);
  if (!(value > 0)) return Refuse("Quota " + name + " must be greater than 0");
  if (is_double) return {};
  if (value > (is_int ? kIntMax : kLongMax)) {
    return Refuse("Proposed value for " + name + " is too large for " +
                  (is_int ? "an INT." : "a LONG."));
  }
  if (std::abs(value - std::round(value)) > kRoundingMax) {
    return Refuse(name + " cannot be a fractional value.");
  }
  return {};
}

TopicOutcome ReadFilter(const kafka::DescribeClientQuotasRequest& request,
                        std::map<std::string_view, const Component*>* filter) {
  for (const Component& component : request.components) {
    const std::string_view type = component.entity_type;
    if (type.empty()) return Refuse("Invalid empty entity type.");
    if (filter->contains(type))
      return Refuse("Entity type " + std::string(type) +
                    " cannot appear more than once in the filter.");
    if (!KnownType(type)) {
      return {ErrorCode::kUnsupportedVersion, "Unsupported entity type " + std::string(type)};
    }
    switch (static_cast<Match>(component.match_type)) {
      case Match::kExact:
        if (!component.match) {
          return Refuse("Request specified MATCH_TYPE_EXACT, but set match string to null.");
        }
        break;
      case Match::kDefault:
        if (component.match) {
          return Refuse("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.");
        }
        break;
      case Match::kSpecified:
        if (component.match) {
          return Refuse(
              "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.");
        }
        break;
      default:
        return Refuse("Unknown match type " + std::to_string(component.match_type));
    }
    (*filter)[type] = &component;
  }
  if (filter->contains(kIpEntity) && filter->size() > 1) {
    return Refuse(
        "Invalid entity filter component combination. IP filter component should not be used with "
        "user or clientId filter component.");
  }
  return {};
}

bool Fits(const std::map<std::string_view, const Component*>& filter, bool strict,
          const QuotaEntity& entity) {
  if (strict && entity.parts.size() != filter.size()) return false;
  for (const auto& [type, component] : filter) {
    const auto part = entity.parts.find(type);
    if (part == entity.parts.end()) return false;
    switch (static_cast<Match>(component->match_type)) {
      case Match::kExact:
        if (!part->second || *part->second != *component->match) return false;
        break;
      case Match::kDefault:
        if (part->second) return false;
        break;
      case Match::kSpecified:
        break;
    }
  }
  return true;
}

}  // namespace

kafka::DescribeClientQuotasResponse QuotaAdmin::Answer(
    const kafka::DescribeClientQuotasRequest& request) const {
  kafka::DescribeClientQuotasResponse response;
  std::map<std::string_view, const Component*> filter;
  if (TopicOutcome outcome = ReadFilter(request, &filter); outcome.error != ErrorCode::kNone) {
    response.error_code = outcome.error;
    response.error_message = response.strings.Keep(std::move(outcome.message));
    return response;
  }
  response.error_message = "";
  response.entries.emplace();
  const auto quotas = context_.quotas.Get();
  for (const auto& [entity, values] : quotas->all()) {
    if (!Fits(filter, request.strict, entity)) continue;
    auto& out = response.entries->emplace_back();
    for (const auto& [type, name] : entity.parts) {
      auto& part = out.entity.emplace_back();
      part.entity_type = response.strings.Keep(type);
      if (name) part.entity_name = response.strings.Keep(*name);
    }
    for (const auto& [key, value] : values) {
      out.values.push_back({response.strings.Keep(key), value, {}});
    }
  }
  return response;
}

void QuotaAdmin::Handle(Call<kafka::AlterClientQuotasRequest> call) {
  struct Change {
    QuotaEntity entity;
    std::map<std::string, std::optional<double>> values;  // None: removed.
    size_t place;                                         // In the response.
    QuotaValues result;                                   // Of the writer.
  };
  struct Work {
    Call<kafka::AlterClientQuotasRequest> call;
    kafka::AlterClientQuotasResponse response;
    std::vector<Change> changes;
  };
  auto work = std::make_shared<Work>(Work{std::move(call), {}, {}});
  std::set<QuotaEntity> named;
  for (const auto& entry : work->call.request.entries) {
    auto& out = work->response.entries.emplace_back();
    for (const auto& part : entry.entity) {
      const auto same = std::ranges::find(out.entity, part.entity_type,
                                          [](const auto& known) { return known.entity_type; });
      if (same == out.entity.end()) {
        out.entity.push_back({part.entity_type, part.entity_name, {}});
      } else {
        same->entity_name = part.entity_name;
      }
    }
    Change change{{}, {}, work->response.entries.size() - 1, {}};
    TopicOutcome outcome = ReadEntity(entry, &change.entity);
    if (outcome.error == ErrorCode::kNone && !named.insert(change.entity).second) {
      outcome = Refuse("Duplicate client quota entity");
    }
    for (const auto& op : entry.ops) {
      if (outcome.error != ErrorCode::kNone) break;
      if (!op.remove) outcome = CheckValue(change.entity, op.key, op.value);
      change.values[std::string(op.key)] = op.remove ? std::nullopt : std::optional(op.value);
    }
    out.error_code = outcome.error;
    if (outcome.error != ErrorCode::kNone) {
      out.error_message = work->response.strings.Keep(std::move(outcome.message));
    } else {
      work->changes.push_back(std::move(change));
    }
  }
  if (work->changes.empty() || work->call.request.validate_only) {
    return work->call.Respond(work->response);
  }
  submitter_.Submit(std::make_unique<StateChange>(
      [work](spool::Transaction& transaction) {
        for (Change& change : work->changes) {
          // From what is stored: a change before this one may not show elsewhere yet.
          const std::string key = StoredQuotaKey(change.entity);
          change.result.clear();
          if (const auto stored = transaction.Get(key)) {
            const auto record = ParseQuota(*stored);
            // What cannot be read was refused when the broker started.
            HF_CHECK(record.has_value());
            for (const auto& value : record->values) {
              change.result[std::string(value.key)] = value.value;
            }
          }
          for (const auto& [name, value] : change.values) {
            if (value) {
              change.result[name] = *value;
            } else {
              change.result.erase(name);
            }
          }
          if (change.result.empty()) {
            transaction.Erase(key);
            continue;
          }
          QuotaRecord record;
          for (const auto& [name, value] : change.result)
            record.values.push_back({name, value, {}});
          transaction.Put(key, Encode(record));
        }
      },
      [this, work](const auto& result) {
        if (result) {
          auto quotas = std::make_shared<Quotas>(*context_.quotas.Get());
          for (const Change& change : work->changes) quotas->Put(change.entity, change.result);
          context_.quotas.Publish(std::move(quotas));
        } else {
          const ErrorCode error = kafka::ToPartitionError(result.error().code);
          for (const Change& change : work->changes) {
            work->response.entries[change.place].error_code = error;
          }
        }
        loop_.Post([work] { work->call.Respond(work->response); });
      }));
}

}  // namespace holdfast::broker
