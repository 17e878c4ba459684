// A record as commands print it.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "client/message.h"
#include "kafka/record_reader.h"

namespace holdfast::cli {

// Borrows from the message.
kafka::Record RecordOf(const client::Message& message);

// Key, TAB, value, escaped as agent/spool_text.h says.
std::string TextOf(const kafka::Record& record);

// offset, timestamp, key, value and headers. What is not UTF-8 has _base64 behind its name.
nlohmann::ordered_json JsonOf(const kafka::Record& record, int64_t offset, int64_t timestamp_ms);

}  // namespace holdfast::cli
