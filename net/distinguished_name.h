// Names of X.509, as Java writes them and therefore Kafka: rules about users are written for that.
//
// The last part comes first (RFC 2253). Types that Java knows by no keyword are written as their
// numbers, and values of these, or that are no text, as "#" and their DER in hexadecimal. Unlike
// Java, which replaces what is not UTF-8, such a value is no text, so that names stay different.
//
// Threads: any.
#pragma once

#include <string>

struct X509_name_st;

namespace holdfast::net {

std::string DistinguishedName(const X509_name_st* name);

}  // namespace holdfast::net
