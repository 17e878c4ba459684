// What each request has to be allowed, before it is served: the table, and who holds requests
// against it.
//
// What is refused is taken out of the request; the rest is served as if it had come alone, and the
// refusals are put into its response. So the code behind it need not know of rules, but for what
// shows only there: Fetch, whose partitions may come from a session, and Metadata.
//
// Ownership: authorizer and catalog reader outlive it.
// Threads: the worker's loop. What a response still needs is asked of a Judge by who answers.
#pragma once

#include <span>
#include <string>

#include "broker/authorizer.h"
#include "broker/catalog.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

// One line of the table.
struct AccessRequirement {
  kafka::Api api;
  ResourceType resource;
  AclOperation operation;
  // What it is asked for; empty: for the request as a whole.
  std::string_view of = {};
};

// By API key.
std::span<const AccessRequirement> AccessRequirements();
// As Markdown, for docs/security.md.
std::string RenderAccessTable();

class Access {
 public:
  Access(Authorizer& authorizer, const CatalogReader& catalog)
      : authorizer_(authorizer), catalog_(catalog) {}

  // False: the call was answered. Of requests without a line in the table there is none.
  template <class Request>
  [[nodiscard]] bool Admit(kafka::Call<Request>& call);

 private:
  Authorizer& authorizer_;
  const CatalogReader& catalog_;
};

}  // namespace holdfast::broker
