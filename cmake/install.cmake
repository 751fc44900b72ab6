# What `make install` puts where, and how others find it: find_package(mezzo) or pkg-config mezzo.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/mezzo)

file(RELATIVE_PATH program_to_library ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(mezzo_program PROPERTIES INSTALL_RPATH $ORIGIN/${program_to_library})
set_target_properties(mezzo_models PROPERTIES EXPORT_NAME models)

install(TARGETS mezzo mezzo_models EXPORT mezzo)
install(TARGETS mezzo_program)
install(DIRECTORY include/mezzo TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(EXPORT mezzo NAMESPACE mezzo:: FILE mezzo-config.cmake DESTINATION ${package_folder})

write_basic_package_version_file(mezzo-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/mezzo.pc.in mezzo.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mezzo-config-version.cmake DESTINATION ${package_folder})
install(FILES ${PROJECT_BINARY_DIR}/mezzo.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
