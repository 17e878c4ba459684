// What agent/record_trace.h found, as `holdfast trace` prints it: a line for each thing that
// happened, and a sentence at the end that says how it stands and what to do.
//
// Threads: any; plain functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "agent/record_trace.h"
#include "spool/state.h"

namespace holdfast::cli {

// `state`: of the spool, for the names of streams.
std::string TextOf(const agent::RecordTrace& trace, const spool::State& state);
nlohmann::ordered_json JsonOf(const agent::RecordTrace& trace, const spool::State& state);

// One word or two, such as "delivered".
std::string_view FateName(agent::RecordTrace::Fate fate);
// The last sentence.
std::string VerdictOf(const agent::RecordTrace& trace);

}  // namespace holdfast::cli
