"""redis-py's asynchronous client."""

import redis.asyncio
from redis_features import Features

FEATURES = Features(redis.asyncio.Redis.from_url).all()
