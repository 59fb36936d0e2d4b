# What `cmake --install` gives: vmsrs; libsrs, shared and static, with its headers, a CMake package (find_package(srs):
# srs::srs, srs::srs_static) and a pkg-config file (srs; with --static for the static one).
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/srs)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/libsrs/include/srs DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT srs
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(TARGETS srs_shared srs_static srs_abi EXPORT srs-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT srs
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT srs
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT srs-targets NAMESPACE srs:: DESTINATION ${package_dir} COMPONENT srs)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/srsConfig.cmake.in ${CMAKE_BINARY_DIR}/srsConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the API; the ABI with the monitor is checked at run time (SRS_ABI_VERSION).
write_basic_package_version_file(${CMAKE_BINARY_DIR}/srsConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/srsConfig.cmake ${CMAKE_BINARY_DIR}/srsConfigVersion.cmake DESTINATION ${package_dir}
        COMPONENT srs)
configure_file(${CMAKE_SOURCE_DIR}/cmake/srs.pc.in ${CMAKE_BINARY_DIR}/srs.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/srs.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT srs)
if(TARGET vmsrs)
  install(TARGETS vmsrs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
