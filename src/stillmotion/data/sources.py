"""Public data that can be downloaded: addresses, sizes and SHA-256, checked against copies known to be good."""

from __future__ import annotations

from typing import NamedTuple


class File(NamedTuple):
    """One file: path below the address and below the target folder, bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


class Collection(NamedTuple):
    """Files that belong together. folder: where they go below the data root. licence: what to tell whoever downloads them."""

    folder: str
    address: str
    licence: str
    files: tuple[File, ...]


def _files(table: str) -> tuple[File, ...]:
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(File(path, int(size), sha256) for path, size, sha256 in rows)


MNIST = Collection(
    folder="mnist",
    address="https://ossci-datasets.s3.amazonaws.com/mnist/",
    licence="MNIST by Y. LeCun, C. Cortes and C. Burges: CC-BY-SA 3.0",
    files=_files("""
    train-images-idx3-ubyte.gz 9912422 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609
    train-labels-idx1-ubyte.gz 28881 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c
    t10k-images-idx3-ubyte.gz 1648877 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6
    t10k-labels-idx1-ubyte.gz 4542 f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6
    """),
)

# The eyes and the other shoes of that repository are in no version of the data set.
SPRITES = Collection(
    folder="sprites",
    address="https://raw.githubusercontent.com/YingzhenLi/Sprites/master/",
    licence="Liberated Pixel Cup sheets by their artists: CC-BY-SA 3.0 and GPL 3.0",
    files=_files("""
    body/0.png 33734 27d1ac78db37c42f35a20d15c42705efc5e58d47c236cc01423879d4f797f151
    body/1.png 32036 1535e9228357b884df80f777a0d1dac10ac35e550e4d8d077105ccad014a1460
    body/2.png 33247 7c241033b4897501cb3721b6c3a9ebfa94b13db10a539edbd9bcc3e0c2a4bcb9
    body/3.png 33232 055f5aa33fc112d8444b42fce2cf50608a9fbbf2466c54ceaa46c777589a717a
    body/4.png 33226 57f3b9c510482379aba9a32fc0de7d48e9cbe3dc40f2447283547f773b77ca72
    body/5.png 31114 91e49453aeab5ebbb4fd2b48253812895dcfb4cb1829b84e24425c66de8f04ff
    body/6.png 54495 5b9678d177c0c33bcac9c47ef74460e9401b99cc4be7dffdccc0951e9eba3993
    bottomwear/0.png 7581 4ec356c488e272fde2d2d0d722b12a80217871e41161d43ba784caf243969ec2
    bottomwear/1.png 8304 0674312eaa4ab548f8bb31ef95d7dbd46b41555758cec51bd6c3e9fac9a0f936
    bottomwear/2.png 7585 3b464feb0d20ff34b0ca2a6d1fd00766ad86e2229c3d56ff91379fe27588a893
    bottomwear/3.png 8227 b366e84ea0519d06cf693f51e0ee2f9ac32b3132d27c75dfdc4b6f52fca072de
    bottomwear/4.png 8322 4ed7e7702e4f50b9692c0043be04b7296a108d85ea97230fb50d13c150d98771
    bottomwear/5.png 5375 a5c5e7e33f13fe5ad37b5836a5a74fb0d2094a0877c2146961b88688ff85840d
    bottomwear/6.png 9132 a50af1e08421c4fcc4b6365c75c81c8b328f0d4a7bf93b5a1cb97d45e3b72bde
    topwear/0.png 15643 b917edcf2b3c35d51ef57a6fad67557c5edf048785bea29db09a640d09ac9a90
    topwear/1.png 15643 e33c6cb31ed1268a2c0dc73b665b1c9b9420e22baf3321880222bdb22682368b
    topwear/2.png 15643 2b9b8fefa08894b7ea536cd62b86d494aefe6e54495c5c1d83460827b13b6448
    topwear/3.png 10561 807f5b628592f6747e2814be9435963069dba6c360577168c02f57bbe903433d
    topwear/4.png 10940 b51b17878503877e179ce4f9231713bf2b2d2d666c3ec9ee29f4e784469867a2
    topwear/5.png 25293 1b6049d43f83ebfda857cc405d1936ac9fd80be480fa6ad239024a6a75ad0372
    topwear/6.png 30053 b1da999190e2c41f2e5861d34adc551ad68016ecdcb125ab1371d8af8f7f36cb
    hair/0.png 8049 e4007b0635a239ad16cdebfe90759349ccc73dfc6836c9d19625714be185f43d
    hair/1.png 8751 fa6369f84d3310705df6d8ca8c9d515a7d211e73d2826c50a9cb5bb285652c66
    hair/2.png 8360 1b8046752be7233e829ebe9b11048e171d8d181ee6f68e07042b34f57bb8af0d
    hair/3.png 8337 333783285c5fd94ff434ae5000d2da39aac7940269f173119eaa70d34c8acfa1
    hair/4.png 7363 24df8e9b291cbd444f6c4d12d35b3d43d909cd13f04e6401e0fd8ab10216d5a2
    hair/5.png 8236 4dd471cc20e0b1cf71adcaab01c88598767e5cfe680adacdf560ca91574f17ae
    hair/6.png 4494 383c2297bf411091dfcb9e250c30912b97a13094fb2465987e961d475855d331
    hair/7.png 7363 c4460119998811c4a1bcb8ccbb22f5d9a8ee84abe30880677e70b7106341e67d
    hair/8.png 8049 ea2cd93e23bafd8962caf6f7e7e4c97e73f5742bd9527254abeb6ddfd510d34a
    hair/9.png 8236 94939929ec5fc142671090a1d83b9e6f89784f3022925fad2e1e19c5dced133d
    shoes/1.png 5504 d56a561616a20a12030d2d40a52eeec63e6d048871bf3b6994221869362151f1
    """),
)
