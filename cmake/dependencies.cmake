# Every package that the library needs, behind one target.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(mezzo_packages REQUIRED IMPORTED_TARGET yaml-0.1 jansson libsodium libpcre2-8)

add_library(mezzo_dependencies INTERFACE)
target_link_libraries(mezzo_dependencies
                      INTERFACE PkgConfig::mezzo_packages ZLIB::ZLIB Threads::Threads m)

# oneDNN by its header and library: the package's own dnnl-config.cmake also demands the OpenCL
# headers, for a GPU runtime that is not used here.
set(MEZZO_HAVE_DNNL 0)
if(NOT MEZZO_DNNL STREQUAL OFF)
    find_path(DNNL_INCLUDE_DIR dnnl.h)
    find_library(DNNL_LIBRARY dnnl)
    if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
        set(MEZZO_HAVE_DNNL 1)
        # Debian's is built with GNU OpenMP, whose thread count must be held at one.
        target_include_directories(mezzo_dependencies SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
        target_link_libraries(mezzo_dependencies INTERFACE ${DNNL_LIBRARY} gomp)
    elseif(MEZZO_DNNL STREQUAL ON)
        message(FATAL_ERROR "MEZZO_DNNL=ON, and there is no oneDNN: install libdnnl-dev, or set "
                            "CMAKE_PREFIX_PATH to where it is")
    endif()
endif()
target_compile_definitions(mezzo_dependencies INTERFACE MZI_HAVE_DNNL=${MEZZO_HAVE_DNNL})
message(STATUS "oneDNN: ${MEZZO_HAVE_DNNL} (MEZZO_DNNL=${MEZZO_DNNL})")
