# Flags shared by every target of ours, and the helpers that find sources and tests by themselves.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(vmsrs_flags INTERFACE)
target_include_directories(vmsrs_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(vmsrs_flags INTERFACE -Wall -Wextra $<$<BOOL:${VMSRS_WERROR}>:-Werror>)
# Functions and lines, which is what a backtrace shows. The variables too take a third of the compiler's time; a debugger
# has them in the dev preset.
target_compile_options(vmsrs_flags INTERFACE $<$<CONFIG:RelWithDebInfo>:-g1>)
target_compile_definitions(vmsrs_flags INTERFACE _GNU_SOURCE)
if(VMSRS_SANITIZE)
  add_compile_options(-fsanitize=${VMSRS_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VMSRS_SANITIZE})
  if(VMSRS_SANITIZE STREQUAL "thread")
    # GCC's ThreadSanitizer does not see fences and warns of each; where one matters here it orders against a signal
    # handler or against the other side of the VM's border, which it does not see either.
    add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-Wno-tsan>)
  endif()
endif()

# vmsrs_gtest(NAME LABEL LIBS...): one test program from NAME.cpp in the calling directory; its cases go to CTest by
# themselves. A case that calls GTEST_SKIP() counts as skipped there.
function(vmsrs_gtest name label)
  add_executable(${name} ${name}.cpp)
  target_link_libraries(${name} PRIVATE vmsrs_flags GTest::gtest GTest::gtest_main Threads::Threads ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  gtest_discover_tests(${name} TEST_PREFIX "${label}." DISCOVERY_TIMEOUT 60 PROPERTIES LABELS ${label} TIMEOUT 300)
endfunction()

# vmsrs_glob_gtests(LABEL): every *_test.cpp of the calling directory is a test program with that label. What it links
# is named by its first line:
#   // links: target target …
function(vmsrs_glob_gtests label)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    file(STRINGS ${source} first LIMIT_COUNT 1)
    set(libs "")
    if(first MATCHES "^// links: (.*)$")
      string(REPLACE " " ";" libs "${CMAKE_MATCH_1}")
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    # A scope that lands leaves its frames without their epilogues, and a log step reads whole words: what a sanitizer
    # takes for errors. And the installed libsrs would need the sanitizer's runtime in strangers' programs.
    if(VMSRS_SANITIZE AND ("srs_hosted" IN_LIST libs OR "srs_shared" IN_LIST libs))
      continue()
    endif()
    # libsrs is guest code: it has stacks and locks of its own, in which ThreadSanitizer sees races and lost locks.
    if(VMSRS_SANITIZE STREQUAL "thread" AND libs MATCHES "srs_(hosted|shared|static)|bookstore_shop|bookstore_programs")
      continue()
    endif()
    vmsrs_gtest(${name} ${label} ${libs})
  endforeach()
endfunction()
