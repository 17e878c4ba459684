// Names of X.509, as Java writes them and therefore Kafka: rules about users are written for that.
//
// The last part comes first (RFC 2253). Types that Java knows by no keyword are written as their
// numbers, and values of these, or that are no text, as "#" and their DER in hexadecimal. Unlike
// Java, which replaces what is not UTF-8, such a value is no text, so that names stay different.
//
// Threads: any.
#pragma once

#include <string>
#include <vector>

struct X509_name_st;

namespace holdfast::net {

class TlsContext;

std::string DistinguishedName(const X509_name_st* name);

// The URIs among the alternative names of the certificate that is shown, sorted. As SPIFFE has it,
// they say whose it is, and the subject nothing.
std::vector<std::string> UrisOf(const TlsContext& shown);

}  // namespace holdfast::net
