#include "cli/command_pages.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <sstream>
#include <vector>

namespace holdfast::cli {
namespace {

std::vector<const CLI::App*> ShownCommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* one) { return !one->get_group().empty(); });
}

std::vector<const CLI::Option*> Options(const CLI::App& app, bool positional) {
  return app.get_options(
      [positional](const CLI::Option* one) { return one->get_positional() == positional; });
}

// So that nothing in the text is a request or an escape of the language, and options can be copied.
std::string Escaped(std::string_view text) {
  std::string escaped;
  if (text.starts_with('.') || text.starts_with('\'')) escaped += "\\&";
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// Lines that are indented stay as they are, the others are paragraphs.
void PrintText(const std::string& text, std::string& page) {
  std::istringstream lines(text);
  bool literal = false;
  bool begins = true;
  for (std::string line; std::getline(lines, line);) {
    const bool indented = line.starts_with("  ");
    if (literal && !indented) page += ".EE\n.RE\n";
    if (line.empty() || (literal && !indented)) begins = true;
    if (!literal && indented) page += ".RS\n.EX\n";
    literal = indented;
    if (line.empty()) continue;
    if (!literal && begins) page += ".PP\n";
    begins = false;
    page += Escaped(literal ? std::string_view(line).substr(2) : line) + "\n";
  }
  if (literal) page += ".EE\n.RE\n";
}

void PrintOption(const CLI::Option& option, std::string& page) {
  const std::string& type = option.get_type_name();
  page += ".TP\n";
  if (option.get_positional()) {
    page += fmt::format(".I {}\n", Escaped(option.get_single_name()));
  } else {
    std::string names;
    for (const std::string& name : option.get_snames()) names += "-" + name + ", ";
    for (const std::string& name : option.get_lnames()) names += "--" + name + ", ";
    names.resize(names.size() - 2);
    page += fmt::format(".BR \"{}\"{}\n", Escaped(names),
                        type.empty() ? "" : fmt::format(" \" \\fI{}\\fP\"", Escaped(type)));
  }
  page += Escaped(option.get_description()) + "\n";
}

void PrintCommand(const CLI::App& command, const std::string& path, std::string& page) {
  std::string synopsis = path;
  if (const auto verbs = ShownCommands(command); !verbs.empty()) {
    synopsis += " VERB";
  } else {
    synopsis += " [OPTIONS]";
    for (const CLI::Option* one : Options(command, true)) synopsis += " " + one->get_single_name();
  }
  page += fmt::format(".SS {}\n{}.\n", Escaped(synopsis), Escaped(command.get_description()));
  for (const bool positional : {true, false}) {
    for (const CLI::Option* one : Options(command, positional)) {
      if (one->get_single_name() != "help") PrintOption(*one, page);
    }
  }
  PrintText(command.get_footer(), page);
  for (const CLI::App* verb : ShownCommands(command))
    PrintCommand(*verb, path + " " + verb->get_name(), page);
}

// `cases`: a line of a case statement for each command that is shown.
void PrintCases(const CLI::App& app, const std::string& path, std::string& cases) {
  std::string commands;
  for (const CLI::App* one : ShownCommands(app)) commands += one->get_name() + " ";
  std::string options;
  for (const CLI::Option* one : Options(app, false)) {
    for (const std::string& name : one->get_lnames()) options += "--" + name + " ";
  }
  cases += fmt::format("    \"{}\") commands='{}' options='{}' ;;\n", path, commands, options);
  for (const CLI::App* one : ShownCommands(app))
    PrintCases(*one, path + " " + one->get_name(), cases);
}

}  // namespace

std::string ManualPage(const CLI::App& app, const std::string& date) {
  std::string page = fmt::format(
      ".TH HOLDFAST 1 {} \"Holdfast {}\" \"User Commands\"\n"
      ".SH NAME\nholdfast \\- a Kafka sidecar that keeps records until the brokers have them\n"
      ".SH SYNOPSIS\n.B holdfast\n.I COMMAND\n[OPTIONS]\n.SH DESCRIPTION\n{}\n",
      date, HOLDFAST_VERSION, Escaped(app.get_description()));
  PrintText(app.get_footer(), page);
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : ShownCommands(app))
    PrintCommand(*command, "holdfast " + command->get_name(), page);
  page += ".SH SEE ALSO\n.BR holdfast.yaml (5)\n";
  return page;
}

std::string BashCompletion(const CLI::App& app) {
  std::string cases;
  PrintCases(app, app.get_name(), cases);
  return "# bash completion for holdfast: `holdfast completion bash` prints it.\n"
         "_holdfast() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} path=holdfast commands= options= at\n"
         "  COMPREPLY=()\n"
         "  # A command stands first, and its verb after it.\n"
         "  for ((at = 1; at <= COMP_CWORD; ++at)); do\n"
         "    case $path in\n" +
         cases +
         "    *) return ;;\n"
         "    esac\n"
         "    ((at < COMP_CWORD)) && [[ \" $commands\" == *\" ${COMP_WORDS[at]} \"* ]] || break\n"
         "    path+=\" ${COMP_WORDS[at]}\"\n"
         "  done\n"
         "  if [[ $cur == -* ]]; then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
         "  elif ((at == COMP_CWORD)); then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$commands\" -- \"$cur\")\n"
         "  fi\n"
         "}\n"
         "complete -o default -F _holdfast holdfast\n";
}

}  // namespace holdfast::cli
