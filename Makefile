# The verbs; what they do is in CMakeLists.txt, CMakePresets.json, tests/ and tools/.
# docs/HACKING.md explains each.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
CTEST = ctest --test-dir build --output-on-failure --parallel $(JOBS)
ifneq ($(shell command -v ninja),)
export CMAKE_GENERATOR ?= Ninja
endif

.PHONY: all check quick asan ubsan tsan bench lint fmt cover install clean

all:
	@cmake --preset release --log-level=NOTICE
	@cmake --build build --parallel $(JOBS)
check: all
	@$(CTEST)
quick: all
	@$(CTEST) --label-exclude 'sanitize|train|slow' --exclude-regex 'kernel.(avx2|ref)'
asan ubsan tsan:
	@tests/sanitize.sh $@ build/$@
bench: all
	@build/checkkern --bench
lint: all
	@tools/lint.sh build
fmt:
	@find include src models cli examples tests bench -name '*.[ch]' -exec clang-format -i {} +
cover:
	@tests/cover.sh build/cover
install: all
	@cmake --install build --prefix $(PREFIX)
clean:
	@cmake -E rm -rf build
