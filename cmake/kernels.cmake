# mezzo_kernels(isa flags...): the kernels of src/kernel/<isa>/, compiled with flags of their own.
# Nothing else is: an inline function compiled for a wider instruction set could be the copy that
# the linker keeps for everybody.
function(mezzo_kernels isa)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernel/${isa}/*.c)
    if(NOT sources)
        return()
    endif()
    add_library(mezzo_kernels_${isa} OBJECT ${sources})
    target_include_directories(mezzo_kernels_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/include
                                                            ${PROJECT_SOURCE_DIR}/src)
    target_compile_options(mezzo_kernels_${isa} PRIVATE ${ARGN})
    if(MEZZO_SANITIZE MATCHES fuzzer) # they parse nothing, and Clang takes minutes to instrument them
        target_compile_options(mezzo_kernels_${isa} PRIVATE -fno-sanitize=all)
    endif()
    # Vectors are instrumented byte by byte: minutes for what the tests of ref's loops find, too.
    if(MEZZO_SANITIZE MATCHES thread AND NOT isa STREQUAL ref)
        target_compile_options(mezzo_kernels_${isa} PRIVATE -fno-sanitize=thread)
    endif()
    set_property(GLOBAL APPEND PROPERTY mezzo_kernel_objects
                                        $<TARGET_OBJECTS:mezzo_kernels_${isa}>)
endfunction()
