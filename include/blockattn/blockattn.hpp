// SPDX-License-Identifier: MIT
/// The core components under one include: everything that needs nothing but Eigen and xsimd.
///
/// Not here, because a program may want to do without them: core/omp_executor.hpp (component `openmp`), io/, text/, the
/// bridge tensor/eigen.hpp, and the textbook under reference/ and analysis/. A program that wants just the store, or
/// just kernels on its own arrays, includes just those.
#pragma once

#include "cache/block.hpp"
#include "cache/context.hpp"
#include "cache/encoder.hpp"
#include "cache/eviction.hpp"
#include "cache/key.hpp"
#include "cache/kv_store.hpp"
#include "cache/storage.hpp"
#include "core/config.hpp"
#include "core/element.hpp"
#include "core/executor.hpp"
#include "core/hash.hpp"
#include "core/memory.hpp"
#include "core/result.hpp"
#include "core/thread_executor.hpp"
#include "kernel/native.hpp"
#include "kernel/rope_config.hpp"
#include "model/calibrate.hpp"
#include "model/config.hpp"
#include "model/llama.hpp"
#include "model/sampler.hpp"
#include "model/session.hpp"
#include "model/weights.hpp"
#include "tensor/extents.hpp"
#include "tensor/kv_panels.hpp"
#include "tensor/layout.hpp"
#include "tensor/tensor.hpp"
#include "tensor/view.hpp"
#include "version.hpp"
