// A record as commands print it.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "client/message.h"
#include "client/record_format.h"
#include "kafka/record_reader.h"

namespace holdfast::cli {

// Borrows from the message.
kafka::Record RecordOf(const client::Message& message);

// Key, TAB, value, escaped as agent/spool_text.h says.
std::string TextOf(const kafka::Record& record);

// What `first` has, then offset, timestamp, key, value and headers. What is not UTF-8 has _base64
// behind its name.
nlohmann::ordered_json JsonOf(const kafka::Record& record, int64_t offset, int64_t timestamp_ms,
                              nlohmann::ordered_json first = {});
// The same back, with topic and partition if they are there; the offset is for the broker to give.
base::Result<client::Record> ParseJson(std::string_view line);

}  // namespace holdfast::cli
