# A private copy of Debian's libjemalloc_pic.a as one object: its names get the prefix vje_, its internals become
# local, and its mutexes bind to the C library's, past our own pthread functions. So the program keeps its malloc.
find_library(JEMALLOC_ARCHIVE NAMES libjemalloc_pic.a REQUIRED)
set(JEMALLOC_OBJECT ${CMAKE_CURRENT_BINARY_DIR}/vje.o)
set(jemalloc_public malloc calloc realloc free posix_memalign aligned_alloc memalign valloc malloc_usable_size mallocx
    rallocx xallocx sallocx dallocx sdallocx nallocx mallctl mallctlnametomib mallctlbymib malloc_stats_print
    malloc_conf malloc_conf_2_conf_harder malloc_message)
set(jemalloc_borrowed pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock pthread_cond_wait
    pthread_cond_timedwait)
set(renames "")
foreach(name ${jemalloc_public} ${jemalloc_borrowed})
  string(APPEND renames "${name} vje_${name}\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/vje.renames CONTENT "${renames}")
set(kept "")
foreach(name mallocx dallocx sallocx nallocx mallctl malloc_conf)
  list(APPEND kept --keep-global-symbol=vje_${name})
endforeach()
set(work ${CMAKE_CURRENT_BINARY_DIR}/vje)
file(MAKE_DIRECTORY ${work})
add_custom_command(
  OUTPUT ${JEMALLOC_OBJECT}
  COMMAND ${CMAKE_COMMAND} -E chdir ${work} ${CMAKE_AR} x ${JEMALLOC_ARCHIVE}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${work}/jemalloc_cpp.pic.o
  COMMAND sh -c "'${CMAKE_LINKER}' -r -o vje.all.o *.pic.o" WORKING_DIRECTORY ${work}
  COMMAND ${CMAKE_OBJCOPY} --redefine-syms=${CMAKE_CURRENT_BINARY_DIR}/vje.renames ${work}/vje.all.o ${work}/vje.named.o
  COMMAND ${CMAKE_OBJCOPY} ${kept} ${work}/vje.named.o ${JEMALLOC_OBJECT}
  DEPENDS ${JEMALLOC_ARCHIVE} ${CMAKE_CURRENT_BINARY_DIR}/vje.renames
  COMMENT "Private copy of jemalloc" VERBATIM)
set_source_files_properties(${JEMALLOC_OBJECT} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
add_custom_target(srs_jemalloc DEPENDS ${JEMALLOC_OBJECT})
