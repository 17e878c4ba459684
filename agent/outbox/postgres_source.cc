#include "agent/outbox/postgres_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "agent/outbox/json_headers.h"
#include "agent/outbox/outbox_sql_sqlite.h"
#include "base/event.h"
#include "base/hex.h"
#include "base/log.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

constexpr int kOldestVersion = 12'00'00;
// From the most rows and bytes at once to one row.
constexpr unsigned kHalvingsMax = 14;
// So many of half as much, none of them quick, and then one of more is tried.
constexpr int kTimesUntilMore = 8;
constexpr std::string_view kOwners = "holdfast_outbox_owner";
constexpr std::string_view kAgents = "holdfast_outbox_agent";

bool IsOneOf(std::string_view type, std::initializer_list<std::string_view> types) {
  return std::ranges::find(types, type) != types.end();
}

bool IsInteger(std::string_view type) { return IsOneOf(type, {"int2", "int4", "int8"}); }
bool IsText(std::string_view type) { return IsOneOf(type, {"text", "varchar", "bpchar"}); }

// A schema before a dot, or an empty one.
std::pair<std::string, std::string> SchemaAndName(const std::string& table) {
  const size_t dot = table.find('.');
  if (dot == std::string::npos) return {"", table};
  return {table.substr(0, dot), table.substr(dot + 1)};
}

int HexValue(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

std::string BytesOf(std::string_view text) {
  if (text.starts_with("\\x")) {
    text.remove_prefix(2);
    std::string bytes(text.size() / 2, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<char>(HexValue(text[2 * i]) * 16 + HexValue(text[2 * i + 1]));
    }
    return bytes;
  }
  // bytea_output = escape.
  size_t size = 0;
  unsigned char* bytes =
      PQunescapeBytea(reinterpret_cast<const unsigned char*>(std::string(text).c_str()), &size);
  std::string copy(reinterpret_cast<const char*>(bytes), bytes == nullptr ? 0 : size);
  PQfreemem(bytes);
  return copy;
}

std::vector<int64_t> PositionsOf(std::span<const RowId> rows) {
  std::vector<int64_t> positions;
  positions.reserve(rows.size());
  for (const RowId& row : rows) positions.push_back(row.position);
  return positions;
}

// A reason may quote bytes of a payload, which a column of text does not take.
std::string Printable(std::string_view text) {
  std::string printable(text);
  std::ranges::replace_if(
      printable, [](char c) { return static_cast<unsigned char>(c) >= 0x80 || c == '\0'; }, '?');
  return printable;
}

}  // namespace

PostgresSource::PostgresSource(Options options)
    : options_(std::move(options)),
      ownership_({.mode = options_.ownership,
                  .parts = static_cast<int32_t>(options_.hash_partitions),
                  .takeover_after = options_.takeover_after,
                  .lease = options_.lease,
                  .agent = options_.agent,
                  .spool = options_.taker.spool,
                  .delivered = options_.taker.delivered}),
      read_(options_.timeouts.statement),
      removal_(options_.timeouts.statement) {}

Result<void> PostgresSource::Open() {
  HF_RETURN_IF_ERROR(Connect());
  if (said_doubt_ != doubt_ && !doubt_.empty())
    base::Log(base::Event::kOutboxOrderInDoubt, "outbox", "{}", doubt_);
  said_doubt_ = doubt_;
  return ownership_.Start(*connection_, Table());
}

Result<void> PostgresSource::Connect() {
  const bool pooled = options_.ownership == Ownership::kLease;
  connection_.reset();
  HF_ASSIGN_OR_RETURN(connection_, PostgresConnection::Open(options_.connection, pooled,
                                                            options_.timeouts, &gives_up_));
  HF_RETURN_IF_ERROR(CheckSchema());
  floor_ = {.forgotten = Clock::now()};
  parts_.clear();
  return {};
}

PostgresOwnership::Table PostgresSource::Table() const {
  return {.name = table_,
          .oid = oid_,
          .owners = schema_ + QuotedName(kOwners),
          .agents = schema_ + QuotedName(kAgents)};
}

Result<void> PostgresSource::CheckSchema() {
  std::vector<std::string> problems;
  const auto wrong = [&problems] {
    return Unexpected(
        Code::kInvalid,
        fmt::format("PostgreSQL: {}. `holdfast outbox sql` prints what has to be there",
                    fmt::join(problems, "; ")));
  };
  if (connection_->server_version() < kOldestVersion) {
    problems.push_back(fmt::format("the server's version is {}, and 12 is the oldest that will do",
                                   connection_->server_version() / 10'000));
    return wrong();
  }
  HF_ASSIGN_OR_RETURN(const PostgresRows replica,
                      connection_->Execute("SELECT pg_is_in_recovery()"));
  if (replica.True(0, 0)) {
    problems.emplace_back(
        "the server is a replica (in recovery), from which rows cannot be removed; connect to the "
        "primary, with several hosts by target_session_attrs=read-write");
    return wrong();
  }
  auto [schema, name] = SchemaAndName(options_.mapping.table);
  HF_ASSIGN_OR_RETURN(
      const PostgresRows found,
      connection_->Execute("SELECT c.oid::bigint, n.nspname, c.relkind, c.relhassubclass FROM "
                           "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
                           "c.relname = $2 AND CASE $1 WHEN '' THEN pg_table_is_visible(c.oid) "
                           "ELSE n.nspname = $1 END",
                           {schema, name}));
  if (found.count() == 0) {
    problems.push_back(schema.empty()
                           ? fmt::format("there is no table `{}` in the search path", name)
                           : fmt::format("there is no table `{}` in schema `{}`", name, schema));
    return wrong();
  }
  schema = found.Text(0, 1);
  oid_ = found.Integer(0, 0);
  const std::string_view kind = found.Text(0, 2);
  if (kind != "r" && kind != "p") {
    problems.push_back(fmt::format("`{}` is no table", name));
    return wrong();
  }
  HF_RETURN_IF_ERROR(
      CheckTable(schema, name, std::array<std::string_view, 2>{"SELECT", "DELETE"}, &problems));
  schema_ = QuotedName(schema) + ".";
  table_ = schema_ + QuotedName(name);
  quarantine_ = schema_ + QuotedName(name + "_quarantine");
  HF_ASSIGN_OR_RETURN(const Columns columns, ColumnsOf(oid_));
  CheckColumns(columns, &problems);
  if (columns.contains(options_.mapping.position)) HF_RETURN_IF_ERROR(CheckPosition(&problems));
  HF_RETURN_IF_ERROR(CheckBeside(schema, columns, &problems));
  if (!problems.empty()) return wrong();
  return LookAtSequence(kind == "r" && !found.True(0, 3));
}

Result<int64_t> PostgresSource::CheckTable(const std::string& schema, const std::string& name,
                                           std::span<const std::string_view> privileges,
                                           std::vector<std::string>* problems) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows found,
      connection_->Execute(
          "SELECT c.oid::bigint, current_user, has_schema_privilege(n.oid, 'USAGE') FROM pg_class "
          "c "
          "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
          {schema, name}));
  if (found.count() == 0) {
    problems->push_back(fmt::format("there is no table `{}` in schema `{}`", name, schema));
    return 0;
  }
  const std::string role(found.Text(0, 1));
  if (!found.True(0, 2)) {
    const std::string grant =
        fmt::format("GRANT USAGE ON SCHEMA {} TO {}", QuotedName(schema), QuotedName(role));
    const std::string problem = fmt::format("a privilege is missing: {}", grant);
    if (std::ranges::find(*problems, problem) == problems->end()) problems->push_back(problem);
  }
  std::vector<std::string_view> missing;
  for (const std::string_view privilege : privileges) {
    HF_ASSIGN_OR_RETURN(
        const PostgresRows has,
        connection_->Execute("SELECT has_table_privilege($1::bigint::oid, $2)",
                             {std::to_string(found.Integer(0, 0)), std::string(privilege)}));
    if (!has.True(0, 0)) missing.push_back(privilege);
  }
  if (!missing.empty()) {
    problems->push_back(fmt::format("a privilege is missing: GRANT {} ON {}.{} TO {}",
                                    fmt::join(missing, ", "), QuotedName(schema), QuotedName(name),
                                    QuotedName(role)));
  }
  return found.Integer(0, 0);
}

Result<PostgresSource::Columns> PostgresSource::ColumnsOf(int64_t oid) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows rows,
      connection_->Execute(
          "SELECT a.attname, b.typname, b.typcategory, a.attnotnull, a.attgenerated <> '', "
          "a.atttypid::bigint, format_type(a.atttypid, a.atttypmod), a.atthasdef OR a.attidentity "
          "<> '', a.attidentity = 'a' FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
          "JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END "
          "WHERE a.attrelid = $1::bigint::oid "
          "AND a.attnum > 0 AND NOT a.attisdropped",
          {std::to_string(oid)}));
  Columns columns;
  for (int i = 0; i < rows.count(); ++i) {
    columns.emplace(rows.Text(i, 0), Column{.oid = rows.Integer(i, 5),
                                            .type = std::string(rows.Text(i, 1)),
                                            .declared = std::string(rows.Text(i, 6)),
                                            .category = rows.Text(i, 2).front(),
                                            .not_null = rows.True(i, 3),
                                            .generated = rows.True(i, 4),
                                            .has_default = rows.True(i, 7),
                                            .own_identity = rows.True(i, 8)});
  }
  return columns;
}

void PostgresSource::CheckColumns(const Columns& columns,
                                  std::vector<std::string>* problems) const {
  const TableMapping& mapping = options_.mapping;
  const auto check = [&](const std::string& column, const char* what, auto usable,
                         const char* types) {
    const auto found = columns.find(column);
    if (found == columns.end()) {
      problems->push_back(
          fmt::format("table `{}` has no column `{}` ({})", mapping.table, column, what));
    } else if (!usable(found->second)) {
      problems->push_back(fmt::format("the column `{}` ({}) is of type {}, and has to be {}",
                                      column, what, found->second.type, types));
    }
  };
  const auto integer = [](const Column& one) { return IsInteger(one.type); };
  const auto scalar = [](const Column& one) {
    return one.category != 'A' && one.category != 'C' && one.category != 'P';
  };
  const auto payload = [](const Column& one) {
    return IsText(one.type) || IsOneOf(one.type, {"bytea", "json", "jsonb", "xml"});
  };
  const auto time = [](const Column& one) {
    return IsInteger(one.type) || IsOneOf(one.type, {"timestamp", "timestamptz"});
  };
  const auto json = [](const Column& one) {
    return IsText(one.type) || IsOneOf(one.type, {"json", "jsonb"});
  };
  const auto partition = [](const Column& one) {
    return IsInteger(one.type) || IsText(one.type) || one.type == "numeric";
  };
  check(mapping.position, "the position", integer, "smallint, integer or bigint");
  check(mapping.id, "the event's id", scalar, "a scalar");
  check(mapping.route, "which topic", scalar, "a scalar");
  check(mapping.payload, "the payload", payload, "bytea, json, jsonb, text or varchar");
  if (mapping.key) check(*mapping.key, "the key", scalar, "a scalar");
  if (mapping.timestamp) {
    check(*mapping.timestamp, "the timestamp", time, "timestamp, timestamptz or bigint (ms)");
  }
  if (mapping.json_headers) check(*mapping.json_headers, "headers", json, "json, jsonb or text");
  if (mapping.only_null) {
    check(
        *mapping.only_null, "null in what is to be sent", [](const Column&) { return true; }, "");
  }
  for (const TableMapping::Additional& one : mapping.additional) {
    if (one.placement == TableMapping::Placement::kPartition) {
      check(one.column, "the partition", partition, "an integer");
    } else {
      check(one.column, "a header", scalar, "a scalar");
    }
  }
  const auto position = columns.find(mapping.position);
  if (position != columns.end() && !position->second.not_null) {
    problems->push_back(
        fmt::format("the column `{}` may be null, and rows without position are never sent: ALTER "
                    "TABLE {} ALTER COLUMN {} SET NOT NULL",
                    mapping.position, table_, QuotedName(mapping.position)));
  }
}

Result<void> PostgresSource::CheckPosition(std::vector<std::string>* problems) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows unique,
      connection_->Execute(
          "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid "
          "= "
          "c.relam JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE "
          "i.indrelid = $1::bigint::oid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 "
          "AND i.indpred IS NULL AND m.amname = 'btree' AND a.attname = $2",
          {std::to_string(oid_), options_.mapping.position}));
  if (unique.count() == 0) {
    problems->push_back(fmt::format(
        "the column `{}` has no unique index of its own: CREATE UNIQUE INDEX CONCURRENTLY ON {} "
        "({})",
        options_.mapping.position, table_, QuotedName(options_.mapping.position)));
  }
  return {};
}

Result<void> PostgresSource::CheckBeside(const std::string& schema, const Columns& columns,
                                         std::vector<std::string>* problems) {
  const std::string quarantine = SchemaAndName(options_.mapping.table).second + "_quarantine";
  HF_ASSIGN_OR_RETURN(const int64_t oid,
                      CheckTable(schema, quarantine,
                                 std::array<std::string_view, 2>{"SELECT", "INSERT"}, problems));
  HF_RETURN_IF_ERROR(CheckTable(schema, std::string(kOwners),
                                std::array<std::string_view, 3>{"SELECT", "INSERT", "UPDATE"},
                                problems));
  HF_RETURN_IF_ERROR(CheckTable(
      schema, std::string(kAgents),
      std::array<std::string_view, 4>{"SELECT", "INSERT", "UPDATE", "DELETE"}, problems));
  if (oid == 0) return {};
  HF_ASSIGN_OR_RETURN(const Columns there, ColumnsOf(oid));
  std::vector<std::string> needed = options_.mapping.Columns();
  needed.insert(needed.end(), {"reason", "quarantined_at"});
  for (const std::string& column : needed) {
    if (there.contains(column)) continue;
    const auto like = columns.find(column);
    const std::string type = like != columns.end()        ? like->second.declared
                             : column == "quarantined_at" ? "timestamptz"
                                                          : "text";
    problems->push_back(
        fmt::format("table `{}` has no column `{}`: ALTER TABLE {} ADD COLUMN {} {}", quarantine,
                    column, quarantine_, QuotedName(column), type));
  }
  differences_ = DifferencesOf(there, columns);
  // Columns of which the agent knows nothing go with the row, if there is a place for them.
  std::vector<std::string> kept;
  for (const auto& [name, column] : columns) {
    const auto place = there.find(name);
    if (place != there.end() && !place->second.generated) kept.push_back(QuotedName(name));
  }
  if (problems->empty()) MakeStatements(columns, kept);
  return {};
}

std::string PostgresSource::DifferencesOf(const Columns& quarantine, const Columns& columns) const {
  std::vector<std::string> changes;
  for (const auto& [name, column] : quarantine) {
    if (column.generated || name == "reason" || name == "quarantined_at") continue;
    const auto change = [&, quoted = QuotedName(name)](std::string_view what) {
      changes.push_back(fmt::format("ALTER COLUMN {} {}", quoted, what));
    };
    const auto from = columns.find(name);
    const bool given = from != columns.end();
    if (given && column.declared != from->second.declared) change("TYPE " + from->second.declared);
    if (given && column.own_identity) change("DROP IDENTITY");
    const bool may_be_null = given ? !from->second.not_null : !column.has_default;
    if (column.not_null && may_be_null) change("DROP NOT NULL");
  }
  if (changes.empty()) return {};
  return fmt::format("; the quarantine differs from the table: ALTER TABLE {} {}", quarantine_,
                     fmt::join(changes, ", "));
}

Result<void> PostgresSource::LookAtSequence(bool plain_table) {
  const std::string& position = options_.mapping.position;
  HF_ASSIGN_OR_RETURN(
      const PostgresRows rows,
      connection_->Execute("SELECT seqcache, seqincrement, seqcycle FROM pg_sequence WHERE "
                           "seqrelid = pg_get_serial_sequence($1, $2)::regclass",
                           {table_, position}));
  const bool any = rows.count() == 1;
  const int64_t cache = any ? rows.Integer(0, 0) : 0;
  const int64_t increment = any ? rows.Integer(0, 1) : 0;
  const bool cycles = any && rows.True(0, 2);
  floor_possible_ = plain_table && cache == 1 && increment > 0 && !cycles;
  std::string why;
  if (!any) {
    why =
        "it has no sequence that belongs to it, so what gives them has to give each transaction "
        "more than it gave to those before";
  } else if (cache > 1) {
    why = fmt::format(
        "sessions get them in blocks (CACHE {}): ALTER TABLE {} ALTER COLUMN {} SET CACHE 1", cache,
        table_, QuotedName(position));
  } else if (increment != 1) {
    why = fmt::format(
        "its sequence has INCREMENT BY {}, as for a library that takes them in blocks", increment);
  } else if (cycles) {
    why = "its sequence begins anew after its end (CYCLE)";
  }
  doubt_ = why.empty() ? why
                       : fmt::format(
                             "{}: events of a key arrive by their positions in `{}`, which may not "
                             "rise as transactions are committed: {}",
                             table_, position, why);
  return {};
}

std::string PostgresSource::ToSend() const {
  return options_.mapping.only_null
             ? fmt::format(" AND {} IS NULL", QuotedName(*options_.mapping.only_null))
             : std::string();
}

std::string PostgresSource::PartOfRow() const {
  const TableMapping& mapping = options_.mapping;
  std::string key = fmt::format("{}::text", QuotedName(mapping.key.value_or(mapping.id)));
  if (mapping.json_headers && mapping.json_key) {
    // Not as JSON, which would fail for all rows if one of them were none.
    key = fmt::format(R"(substring({}::text from '"{}"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}}\s]+)'))",
                      QuotedName(*mapping.json_headers), *mapping.json_key);
  }
  return fmt::format("(hashtextextended(coalesce({}, ''), 0) & 9223372036854775807) % {}", key,
                     options_.hash_partitions);
}

std::string PostgresSource::FileOfTable() const {
  return fmt::format("pg_relation_filenode({}::oid)::bigint", oid_);
}

void PostgresSource::MakeStatements(const Columns& columns, const std::vector<std::string>& kept) {
  const TableMapping& mapping = options_.mapping;
  columns_ = mapping.Columns();
  bytes_.clear();
  std::vector<std::string> names;
  std::vector<std::string> values;
  std::vector<std::string> types;
  for (const std::string& column : columns_) {
    const std::string quoted = QuotedName(column);
    const Column& one = columns.find(column)->second;
    bytes_.push_back(one.type == "bytea");
    names.push_back(quoted);
    types.push_back(fmt::format("pg_typeof({})::oid = {}", quoted, one.oid));
    values.push_back(bytes_.back() ? quoted : quoted + "::text");
  }
  timestamp_ = "NULL::bigint";
  if (mapping.timestamp) {
    const std::string quoted = QuotedName(*mapping.timestamp);
    timestamp_ = IsInteger(columns.find(*mapping.timestamp)->second.type)
                     ? quoted + "::bigint"
                     : fmt::format(
                           "CASE WHEN isfinite({0}) THEN floor(extract(epoch FROM {0}) * "
                           "1000)::bigint END",
                           quoted);
  }
  const std::string position = QuotedName(mapping.position);
  // What stands before a row. What is stored compressed is only unpacked for its size if that many
  // bytes are read anyway.
  const auto before = [&](const char* size, const std::vector<std::string>& of) {
    std::string all;
    for (const std::string& one : of) {
      all += fmt::format("{}coalesce({}({}), 0)::bigint", all.empty() ? "" : " + ", size, one);
    }
    return fmt::format(
        "coalesce(sum({}) OVER (ORDER BY {} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)",
        all, position);
  };
  const auto read = [&](const std::string& which) {
    return fmt::format(
        "SELECT {values}, holdfast_ms, {types}, {file} FROM (SELECT *, {sent} AS holdfast_sent "
        "FROM (SELECT *, {stored} AS holdfast_stored FROM (SELECT {names}, {ms} AS holdfast_ms "
        "FROM "
        "{table} WHERE {position} > $1::bigint{to_send} AND ({route} IS NULL OR {route}::text <> "
        "ALL($3::text[])){which} ORDER BY {position} LIMIT $2::bigint) AS lowest) AS packed "
        "WHERE holdfast_stored < $4::bigint) AS unpacked WHERE holdfast_sent < $4::bigint "
        "ORDER BY unpacked.{position}",
        fmt::arg("values", fmt::join(values, ", ")), fmt::arg("types", fmt::join(types, " AND ")),
        fmt::arg("file", FileOfTable()), fmt::arg("stored", before("pg_column_size", names)),
        fmt::arg("sent", before("octet_length", values)), fmt::arg("position", position),
        fmt::arg("names", fmt::join(names, ", ")), fmt::arg("ms", timestamp_),
        fmt::arg("table", table_), fmt::arg("to_send", ToSend()),
        fmt::arg("route", QuotedName(mapping.route)), fmt::arg("which", which));
  };
  // The position may be the id, too.
  const auto id_at =
      static_cast<size_t>(std::ranges::find(columns_, mapping.id) - columns_.begin());
  id_is_bytes_ = bytes_[id_at];
  find_ = fmt::format("SELECT {}, {}, {} FROM {} WHERE {} = ANY($1::bigint[])", values[0],
                      values[id_at], types[id_at], table_, position);
  find_to_send_ = find_ + ToSend();
  const std::string id = fmt::format(
      fmt::runtime(id_is_bytes_ ? "coalesce(encode({}, 'hex'), '')" : "coalesce({}::text, '')"),
      names[id_at]);
  // Not by a join: the planner might begin it at the table.
  const auto at_position = [&](const char* positions, const char* texts) {
    return fmt::format("(SELECT jsonb_object({}::bigint[]::text[], {}::text[])) ->> {}::text",
                       positions, texts, position);
  };
  const auto of_parts = [this](const char* parts) {
    return fmt::format(" AND {} = ANY({}::bigint[])", PartOfRow(), parts);
  };
  const std::string not_stuck = fmt::format(" AND NOT ({} = ANY($5::bigint[]) AND {} = {})",
                                            position, id, at_position("$5", "$6"));
  read_all_ = read(not_stuck);
  read_parts_ = read(not_stuck + of_parts("$7"));
  remove_ = fmt::format("DELETE FROM {} WHERE {} = ANY($1::bigint[]) AND {} = {}", table_, position,
                        id, at_position("$1", "$2"));
  move_ = fmt::format(
      "WITH moved AS ({0}{1} RETURNING {2}, {3} AS holdfast_why) INSERT INTO {4} ({2}, reason, "
      "quarantined_at) SELECT {2}, holdfast_why, clock_timestamp() FROM moved",
      remove_, of_parts("$4"), fmt::join(kept, ", "), at_position("$1", "$3"), quarantine_);
  measure_ = fmt::format(
      "SELECT part, rows, (SELECT {} FROM {} WHERE {} = low), low FROM (SELECT part, "
      "count(*) AS rows, min(position) AS low FROM (SELECT {} AS part, {} AS position FROM {} "
      "WHERE {} > $1::bigint{} ORDER BY {} LIMIT {}) AS waiting GROUP BY part) AS parts",
      timestamp_, table_, position, options_.hash_partitions == 1 ? "0" : PartOfRow(), position,
      table_, position, ToSend(), position, Lag::kCountMost);
}

std::optional<std::string> PostgresSource::ValueAt(const PostgresRows& rows, int row,
                                                   int column) const {
  if (rows.IsNull(row, column)) return std::nullopt;
  const std::string_view text = rows.Text(row, column);
  return bytes_[static_cast<size_t>(column)] ? BytesOf(text) : std::string(text);
}

// A cast to text is as good for the new type, and gives something else.
Result<void> PostgresSource::CheckTypes(const PostgresRows& rows, int same_types) const {
  for (int i = 0; i < rows.count(); ++i) {
    if (rows.True(i, same_types)) continue;
    return Unexpected(Code::kUnavailable,
                      fmt::format("{}: a column has got another type; connecting anew", table_));
  }
  return {};
}

Row PostgresSource::RowOf(const PostgresRows& rows, int at) const {
  const TableMapping& mapping = options_.mapping;
  const auto value = [&](const std::string& column) {
    return ValueAt(rows, at,
                   static_cast<int>(std::ranges::find(columns_, column) - columns_.begin()));
  };
  Row row;
  const auto problem = [&row](std::string what) {
    if (row.problem.empty()) row.problem = std::move(what);
  };
  row.position = rows.Integer(at, 0);
  if (std::optional<std::string> id = value(mapping.id)) {
    row.id = *std::move(id);
  } else {
    problem(fmt::format("the column `{}` is null, and holds the event's id", mapping.id));
  }
  if (std::optional<std::string> route = value(mapping.route)) {
    row.route = *std::move(route);
  } else {
    problem(fmt::format("the column `{}` is null, and says to which topic", mapping.route));
  }
  if (mapping.key) row.key = value(*mapping.key);
  row.payload = value(mapping.payload);
  if (mapping.timestamp) {
    const int computed = static_cast<int>(columns_.size());
    if (!rows.IsNull(at, computed)) {
      row.timestamp_ms = rows.Integer(at, computed);
    } else if (const std::optional<std::string> written = value(*mapping.timestamp)) {
      problem(fmt::format("the column `{}` is no time: `{}`", *mapping.timestamp, *written));
    }
  }
  for (const TableMapping::Additional& one : mapping.additional) {
    std::optional<std::string> text = value(one.column);
    if (one.placement == TableMapping::Placement::kHeader) {
      row.headers.emplace_back(one.alias, std::move(text));
      continue;
    }
    if (!text) continue;
    int32_t partition = -1;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), partition);
    if (error != std::errc() || end != text->data() + text->size() || partition < 0) {
      problem(fmt::format("the column `{}` is no partition: `{}`", one.column, *text));
      continue;
    }
    row.partition = partition;
  }
  if (mapping.json_headers) {
    if (const std::optional<std::string> json = value(*mapping.json_headers)) {
      if (const auto taken = TakeJsonHeaders(*json, mapping.json_key, &row); !taken) {
        problem(fmt::format("the column `{}`: {}", *mapping.json_headers, taken.error().message));
      }
    }
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (columns_[i] == mapping.payload || columns_[i] == mapping.json_headers) continue;
    if (!NamesField(mapping.topic, columns_[i])) continue;
    if (std::optional<std::string> text = ValueAt(rows, at, static_cast<int>(i))) {
      row.fields.emplace_back(columns_[i], *std::move(text));
    }
  }
  return row;
}

Result<PostgresRows> PostgresSource::Fetch(size_t limit, std::span<const std::string> held,
                                           std::span<const RowId> stuck) {
  std::vector<PostgresConnection::Parameter> parameters{
      std::to_string(floor_.position),      std::to_string(read_.Of(limit)),   PostgresArray(held),
      std::to_string(read_.Of(kReadBytes)), PostgresArray(PositionsOf(stuck)), IdsOf(stuck)};
  if (!ReadsAll(parts_)) parameters.emplace_back(PostgresArray(parts_));
  const std::string& statement = ReadsAll(parts_) ? read_all_ : read_parts_;
  const auto begun = Clock::now();
  Result<PostgresRows> found = read_.halved() ? connection_->ExecutePatiently(statement, parameters)
                                              : connection_->Execute(statement, parameters);
  if (found) {
    read_.AskForMoreAfter(Clock::now() - begun);
  } else if (found.error().code == Code::kTimeout) {
    read_.AskForLess();
  }
  return found;
}

void PostgresSource::Portion::AskForLess() {
  halvings_ = std::min(halvings_ + 1, kHalvingsMax);
  in_time_ = 0;
}

void PostgresSource::Portion::AskForMoreAfter(Clock::duration took) {
  if (halvings_ == 0) return;
  in_time_ = took < timeout_ ? in_time_ + 1 : 0;
  // What takes long however few rows it is for is better done for many.
  if (took >= timeout_ / 4 && in_time_ < kTimesUntilMore) return;
  --halvings_;
  in_time_ = 0;
}

Result<std::vector<Row>> PostgresSource::Read(size_t limit, std::span<const std::string> held,
                                              std::span<const RowId> stuck) {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  HF_RETURN_IF_ERROR(ownership_.Keep(*connection_));
  std::vector<int32_t> parts = ownership_.Readable();
  const auto now = Clock::now();
  if (!std::ranges::includes(parts_, parts) || now - floor_.forgotten >= kForgetEvery) {
    floor_ = {.forgotten = now};
  }
  parts_ = std::move(parts);
  std::vector<Row> rows;
  if (parts_.empty()) return rows;

  HF_ASSIGN_OR_RETURN(PostgresRows found, Fetch(limit, held, stuck));
  HF_ASSIGN_OR_RETURN(const bool other_file, ForgetFloorOfOtherFile(found));
  if (other_file) {
    HF_ASSIGN_OR_RETURN(found, Fetch(limit, held, stuck));
  }
  if (auto held_parts = ownership_.Hold(*connection_, parts_); !held_parts) {
    read_.AskForLess();  // Or the next read would outlast the lease as well.
    return Unexpected(std::move(held_parts).error());
  }
  HF_RETURN_IF_ERROR(CheckTypes(found, static_cast<int>(columns_.size()) + 1));
  rows.reserve(static_cast<size_t>(found.count()));
  for (int i = 0; i < found.count(); ++i) rows.push_back(RowOf(found, i));
  HF_RETURN_IF_ERROR(RaiseFloor(rows, !held.empty() || !stuck.empty()));
  return rows;
}

Result<bool> PostgresSource::ForgetFloorOfOtherFile(const PostgresRows& rows) {
  if (!floor_possible_) return false;
  int64_t file = 0;
  if (rows.count() > 0) {
    file = rows.Integer(0, static_cast<int>(columns_.size()) + 2);
  } else if (floor_.highest != kNoFloor) {
    // Perhaps all that is there stands below the floor.
    HF_ASSIGN_OR_RETURN(const PostgresRows named, connection_->Execute("SELECT " + FileOfTable()));
    file = named.Integer(0, 0);
  }
  const bool other = file != 0 && floor_.file != 0 && file != floor_.file;
  if (other) floor_ = {.forgotten = Clock::now()};
  if (file != 0) floor_.file = file;
  return other;
}

// The steps are those at the head of the header.
Result<void> PostgresSource::RaiseFloor(std::span<const Row> rows, bool some_held) {
  if (!floor_possible_) return {};
  if (floor_.next && floor_.writers.empty() && !some_held) {
    const int64_t highest =
        rows.empty() ? *floor_.next : std::min(*floor_.next, rows.front().position - 1);
    floor_.position = std::max(floor_.position, highest);
    if (highest == *floor_.next) floor_.next.reset();
  }
  if (!rows.empty()) floor_.highest = std::max(floor_.highest, rows.back().position);
  const auto now = Clock::now();
  if (now - floor_.looked < kFloorEvery) return {};
  const bool begins = !floor_.next;
  if (begins ? floor_.highest <= floor_.position : floor_.writers.empty()) return {};
  floor_.looked = now;
  HF_ASSIGN_OR_RETURN(
      const PostgresRows locks,
      connection_->Execute(
          "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND database = "
          "(SELECT oid FROM pg_database WHERE datname = current_database()) AND relation = "
          "$1::bigint::oid AND mode = 'RowExclusiveLock' AND granted AND pid IS DISTINCT FROM "
          "pg_backend_pid()",
          {std::to_string(oid_)}));
  std::set<std::string> writers;
  for (int i = 0; i < locks.count(); ++i) {
    const std::string_view writer = locks.Text(i, 0);
    // One that was prepared for two-phase commit meanwhile has another name then, in servers before
    // 15.
    constexpr std::string_view kPrepared = "-1/";
    if (begins || writer.starts_with(kPrepared) || floor_.writers.contains(std::string(writer))) {
      writers.emplace(writer);
    }
  }
  if (begins) floor_.next = floor_.highest;
  floor_.writers = std::move(writers);
  return {};
}

Result<std::vector<RowId>> PostgresSource::Find(std::span<const int64_t> positions) {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  return FindBy(find_, positions);
}

Result<std::vector<RowId>> PostgresSource::FindBy(const std::string& statement,
                                                  std::span<const int64_t> positions) {
  HF_ASSIGN_OR_RETURN(const PostgresRows rows,
                      connection_->Execute(statement, {PostgresArray(positions)}));
  HF_RETURN_IF_ERROR(CheckTypes(rows, 2));
  std::vector<RowId> found;
  for (int i = 0; i < rows.count(); ++i) {
    const std::string_view id = rows.IsNull(i, 1) ? "" : rows.Text(i, 1);
    found.push_back({rows.Integer(i, 0), id_is_bytes_ ? BytesOf(id) : std::string(id)});
  }
  return found;
}

std::string PostgresSource::IdsOf(std::span<const RowId> rows) const {
  std::vector<std::string> ids;
  ids.reserve(rows.size());
  for (const RowId& row : rows) ids.push_back(id_is_bytes_ ? base::ToHex(row.id) : row.id);
  return PostgresArray(ids);
}

Result<void> PostgresSource::CheckGone(std::span<const RowId> rows, const PostgresRows& removed) {
  if (removed.changed() == rows.size()) return {};
  HF_ASSIGN_OR_RETURN(const std::vector<RowId> found, FindBy(find_to_send_, PositionsOf(rows)));
  for (const RowId& row : found) {
    if (std::ranges::find(rows, row) == rows.end()) continue;
    return Unexpected(Code::kUnavailable,
                      fmt::format("{}: the row at {} could not be removed, and the database does "
                                  "not say why; is there a trigger?",
                                  table_, row.position));
  }
  return {};
}

Result<void> PostgresSource::RemoveSpooled(std::span<const RowId> rows) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows removed,
      connection_->Execute(remove_, {PostgresArray(PositionsOf(rows)), IdsOf(rows)}));
  return CheckGone(rows, removed);
}

Result<void> PostgresSource::MovePoison(std::span<const Poison> poison) {
  std::vector<RowId> rows;
  std::vector<std::string> reasons;
  for (const Poison& one : poison) {
    rows.push_back(one.row);
    reasons.push_back(Printable(one.reason));
  }
  const std::array<PostgresConnection::Parameter, 4> parameters{PostgresArray(PositionsOf(rows)),
                                                                IdsOf(rows), PostgresArray(reasons),
                                                                PostgresArray(ownership_.Owned())};
  HF_ASSIGN_OR_RETURN(const PostgresRows moved, connection_->Try(move_, parameters));
  HF_RETURN_IF_ERROR(CheckGone(rows, moved));
  // Not at the commit, of which it is not known then whether it came to pass.
  HF_RETURN_IF_ERROR(connection_->Try("SET CONSTRAINTS ALL IMMEDIATE"));
  return {};
}

Result<Source::Refusal> PostgresSource::Remove(std::span<const RowId> spooled,
                                               std::span<const Poison> poison) {
  const size_t all = spooled.size() + poison.size();
  // If not at once, parts of it, each whole: what is left is removed when the caller comes again.
  while (true) {
    const size_t some = removal_.Of(all);
    const auto rows = spooled.first(std::min(some, spooled.size()));
    const auto bad = poison.first(std::min(some - rows.size(), poison.size()));
    const auto begun = Clock::now();
    Result<Refusal> removed = RemoveAtOnce(rows, bad);
    if (!removed && removed.error().code == Code::kTimeout) removal_.AskForLess();
    if (!removed || !removed->empty()) return removed;
    removal_.AskForMoreAfter(Clock::now() - begun);
    spooled = spooled.subspan(rows.size());
    poison = poison.subspan(bad.size());
    if (spooled.empty() && poison.empty()) return Refusal();
    // All of them may take longer than a lease.
    HF_RETURN_IF_ERROR(ownership_.Hold(*connection_, poison.empty() ? parts_ : ownership_.Owned()));
  }
}

Result<Source::Refusal> PostgresSource::RemoveAtOnce(std::span<const RowId> spooled,
                                                     std::span<const Poison> poison) {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  const bool one_statement = options_.ownership == Ownership::kAdvisoryLock && poison.empty();
  if (one_statement) {
    HF_RETURN_IF_ERROR(RemoveSpooled(spooled));
    return Refusal();
  }
  HF_RETURN_IF_ERROR(connection_->Begin());
  HF_RETURN_IF_ERROR(ownership_.Fence(*connection_, poison.empty() ? parts_ : ownership_.Owned()));
  if (!spooled.empty()) HF_RETURN_IF_ERROR(RemoveSpooled(spooled));
  const Result<void> moved = poison.empty() ? Result<void>() : MovePoison(poison);
  if (!moved) {
    if (!connection_->open()) return Unexpected(moved.error());
    HF_RETURN_IF_ERROR(connection_->Rollback());
    return moved.error().message + differences_;
  }
  HF_RETURN_IF_ERROR(connection_->Commit());
  return Refusal();
}

Result<Source::Lag> PostgresSource::Measure() {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  HF_RETURN_IF_ERROR(ownership_.Keep(*connection_));
  return Count();
}

Result<Source::Lag> PostgresSource::Count() {
  Lag lag;
  lag.parts.resize(options_.hash_partitions);
  for (size_t i = 0; i < lag.parts.size(); ++i) {
    lag.parts[i].partition = static_cast<int32_t>(i);
    lag.parts[i].owned = ownership_.Owns(static_cast<int32_t>(i));
  }
  // The floor says nothing about the parts of others.
  HF_ASSIGN_OR_RETURN(
      const PostgresRows rows,
      connection_->Execute(measure_,
                           {std::to_string(ReadsAll(parts_) ? floor_.position : kNoFloor)}));
  for (int i = 0; i < rows.count(); ++i) {
    Lag::Part& part = lag.parts[static_cast<size_t>(rows.Integer(i, 0))];
    part.rows = static_cast<uint64_t>(rows.Integer(i, 1));
    if (!rows.IsNull(i, 2)) part.oldest_ms = rows.Integer(i, 2);
    part.lowest = rows.Integer(i, 3);
  }
  HF_ASSIGN_OR_RETURN(
      const PostgresRows quarantined,
      connection_->Execute(fmt::format("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS lowest",
                                       quarantine_, Lag::kCountMost)));
  lag.quarantined = static_cast<uint64_t>(quarantined.Integer(0, 0));
  return lag;
}

Result<Source::Sight> PostgresSource::Look() {
  HF_RETURN_IF_ERROR(Connect());
  HF_RETURN_IF_ERROR(ownership_.Look(*connection_, Table()));
  HF_ASSIGN_OR_RETURN(Lag lag, Count());
  connection_.reset();
  return Sight{.lag = std::move(lag), .doubt = doubt_};
}

void PostgresSource::Close(bool clean) {
  if (connection_) ownership_.Release(*connection_, clean);
  connection_.reset();
}

}  // namespace holdfast::outbox
