# Every compile and link flag of the project.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# -O2, never -Ofast: that one removes NaN checks, and turns on flush-to-zero for the whole process.
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
# Position-independent executables need the link flag too.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

add_compile_definitions(_GNU_SOURCE)
add_compile_options(
    -fno-fast-math -ffp-contract=off
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wundef -Wvla -Wdouble-promotion -Wswitch-enum
    $<$<BOOL:${MEZZO_WERROR}>:-Werror>)
add_link_options(LINKER:--as-needed LINKER:-z,relro LINKER:-z,now)

if(MEZZO_SANITIZE)
    set(sanitize -fsanitize=${MEZZO_SANITIZE} -fno-omit-frame-pointer -g1)
    if(MEZZO_SANITIZE MATCHES undefined)
        list(APPEND sanitize -fsanitize=float-cast-overflow -fno-sanitize-recover=all)
    endif()
    add_compile_options(${sanitize})
    add_link_options(${sanitize})
else()
    add_link_options(LINKER:--no-undefined) # the sanitizers' own symbols come late
endif()
if(MEZZO_COVERAGE)
    add_compile_options(--coverage -O0)
    add_link_options(--coverage)
endif()

# Flags that make an attacker's work harder, where the compiler has them.  Kernels go without: they
# parse nothing, and a canary in every call costs there.
set(mezzo_hardening "")
if(NOT MEZZO_SANITIZE AND NOT MEZZO_COVERAGE)
    foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
                 -fno-strict-overflow -fno-delete-null-pointer-checks)
        string(MAKE_C_IDENTIFIER "MEZZO_HAS${flag}" known)
        check_c_compiler_flag(${flag} ${known})
        if(${known})
            list(APPEND mezzo_hardening ${flag})
        endif()
    endforeach()
    if(NOT CMAKE_BUILD_TYPE STREQUAL Debug)
        list(APPEND mezzo_hardening -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
    endif()
endif()
function(mezzo_harden target)
    target_compile_options(${target} PRIVATE ${mezzo_hardening})
endfunction()
