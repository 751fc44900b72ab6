# Tests that are not C: the command line by bats, the fast static checks, and the sanitizers, each
# a build of its own.
find_program(BATS bats)
if(BATS)
    file(GLOB cases CONFIGURE_DEPENDS cli/*.bats)
    foreach(case IN LISTS cases)
        get_filename_component(name ${case} NAME_WE)
        mezzo_test(cli.${name} cli ${BATS} ${case})
    endforeach()
else()
    message(STATUS "no bats: tests of the command line are left out")
endif()

mezzo_test(api.install api ${PROJECT_SOURCE_DIR}/tests/install.sh ${PROJECT_BINARY_DIR})

# The tools of scripts/bench.
find_program(MEZZO_FOUND_python3 python3)
if(MEZZO_FOUND_python3)
    mezzo_test(bench.tools bench ${MEZZO_FOUND_python3} ${PROJECT_SOURCE_DIR}/tests/bench/test_bench.py
               $<TARGET_FILE_DIR:ceiling>)
endif()

# The sanitizers: a build of their own each, inside this one.
if(NOT MEZZO_SANITIZE AND NOT MEZZO_COVERAGE)
    foreach(preset asan tsan)
        mezzo_test(sanitize.${preset} sanitize
                   ${PROJECT_SOURCE_DIR}/tests/sanitize.sh ${preset} ${PROJECT_BINARY_DIR}/${preset})
        set_tests_properties(sanitize.${preset} PROPERTIES RUN_SERIAL ON TIMEOUT 1200)
    endforeach()
endif()

# The fast static checks (`make lint` runs the slow ones too), and the self-test of each: planted
# violations that it must find.
function(mezzo_lint name needs check)
    find_program(MEZZO_FOUND_${needs} ${needs})
    if(MEZZO_FOUND_${needs})
        mezzo_test(lint.${name} lint ${PROJECT_SOURCE_DIR}/tools/${check} ${ARGN})
        mezzo_test(lint.${name}.self lint ${PROJECT_SOURCE_DIR}/tools/${check} --self-test)
    else()
        message(STATUS "no ${needs}: lint.${name} is left out")
    endif()
endfunction()
mezzo_lint(layers python3 check_layers.py ${PROJECT_SOURCE_DIR})
mezzo_lint(tidy python3 tidy.py ${PROJECT_SOURCE_DIR})
mezzo_lint(scripts shellcheck check_scripts.sh)
mezzo_lint(format clang-format check_format.sh)
if(NOT MEZZO_SANITIZE AND NOT MEZZO_COVERAGE) # both add symbols and variables of their own
    mezzo_lint(symbols nm check_symbols.sh ${PROJECT_BINARY_DIR})
endif()

# The tables in docs/ that are made from the inventories.
add_executable(gen_docs ${PROJECT_SOURCE_DIR}/tools/gen_docs.c)
target_include_directories(gen_docs PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(gen_docs PRIVATE mezzo)
foreach(mode "" --self-test)
    string(REPLACE "--self-test" ".self" suffix "${mode}")
    mezzo_test(lint.docs${suffix} lint
               ${PROJECT_SOURCE_DIR}/tools/check_docs.sh $<TARGET_FILE:gen_docs> ${mode})
endforeach()
