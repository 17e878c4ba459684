# One static library per folder, named holdfast_<folder>, and one test binary per folder and cost.

# Designated initialisers name what differs from the default; gcc would warn of every member left out.
set(HOLDFAST_WARNINGS -Wall -Wextra -Wno-missing-field-initializers -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND HOLDFAST_WARNINGS -Wthread-safety)
endif()

# holdfast_library(<folder> SOURCES a.cc ... [LINK public targets] [LINK_PRIVATE private targets])
function(holdfast_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;LINK_PRIVATE" ${ARGN})
  add_library(holdfast_${folder} STATIC ${ARG_SOURCES})
  target_include_directories(holdfast_${folder} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(holdfast_${folder} PRIVATE ${HOLDFAST_WARNINGS})
  target_link_libraries(holdfast_${folder} PUBLIC ${ARG_LINK} PRIVATE ${ARG_LINK_PRIVATE})
endfunction()

# holdfast_test(<name> LABEL unit SOURCES a_test.cc ... LINK targets)
# One ctest per binary keeps the run short; gtest prints each case.
function(holdfast_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${HOLDFAST_WARNINGS} ${HOLDFAST_TEST_OPTIONS})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} holdfast_test_source_path
    GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(ARG_LABEL MATCHES "^(unit|golden)$")
    add_dependencies(sanitized_tests ${name})
  endif()
endfunction()
