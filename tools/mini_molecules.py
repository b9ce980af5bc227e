"""The molecules that `mini` learns from: SMILES of H, C, N, O compounds, by family."""

FAMILIES = {
    "small": "[H][H] N#N [C-]#[O+] O=C=O C O N C#N OO NN C=O NO N=N N=C=O N#CO OC=O",
    "alkanes": "CC CCC CCCC CC(C)C CCCCC CC(C)(C)C CCCCCC CCC(C)CC CC(C)C(C)C C1CC1 C1CCC1 C1CCCC1 "
    "C1CCCCC1 CC1CC1 CC1CCCC1 C1CC2CC1C2 C1CC2CCC1C2 CC1CCCCC1 C1CC1C1CC1 CCCCCCC CCCCCCCC",
    "alkenes": "C=C CC=C C=CC=C CC=CC CC(C)=C CC(C)=CC C=C=C C1=CCCC1 C1=CCCCC1 C1=CCC=C1 "
    "C1=CC=CCC1 C=CCC=C C=C1CCCC1 C1=CC2CCC1C2 CC(=C)C=C C=CC=CC=C C1=CC1 C1=CCC1",
    "alkynes": "C#C CC#C CC#CC C#CC#C C#CC=C CCC#C C#CCO C#CCN C#CC(=O)O C#CC1CC1 CC#CCO",
    "aromatics": "c1ccccc1 Cc1ccccc1 Cc1ccc(C)cc1 Cc1cccc(C)c1 Cc1ccccc1C CCc1ccccc1 C=Cc1ccccc1 "
    "C#Cc1ccccc1 c1ccc2ccccc2c1 C1Cc2ccccc2C1 C1=Cc2ccccc2C1",
    "alcohols": "CO CCO CCCO CC(C)O CC(C)(C)O OCCO OCC(O)CO C=CCO C1CCCCC1O C1CCC1O OC1CC1 "
    "CCCCO CC(O)CO OCCCO Oc1ccccc1 Oc1ccc(O)cc1 Oc1cccc(O)c1 Oc1ccccc1O OCc1ccccc1 Cc1ccccc1O "
    "C=CO OCC=CCO OC1CCCC1O",
    "ethers": "COC CCOCC COCC COCCOC C1CO1 C1COC1 C1CCOC1 C1CCOCC1 C1COCCO1 C1OCOCO1 COC=C "
    "COc1ccccc1 COCO COCCO C1COCO1 CC1CO1 C1=COCC1 C=COC=C COC(C)OC",
    "amines": "CN CCN CNC CN(C)C CCCN CC(C)N NCCN C1CN1 C1CNC1 C1CCNC1 C1CCNCC1 C1CNCCN1 C1COCCN1 "
    "NCCO CN(C)CCO Nc1ccccc1 CNc1ccccc1 Nc1ccc(N)cc1 NCc1ccccc1 C=CN NC1CC1 CC(C)(C)N NC1CCCCC1 "
    "CNCCN CN1CCCC1 C1CN2CCN1CC2 NCCCN Nc1ccccc1O",
    "amides": "NC(N)=O NC=O CNC=O CN(C)C=O CC(N)=O CNC(C)=O CN(C)C(C)=O CCC(N)=O NC(=O)C(N)=O "
    "NC(=O)CC(N)=O CNC(N)=O CNC(=O)NC CN(C)C(N)=O C=CC(N)=O NC(=O)c1ccccc1 O=C1CCCN1 O=C1CCN1 "
    "O=C1CCCCN1 O=C1NCCN1 O=C1CNC(=O)N1 O=C1CCC(=O)N1 O=C1C=CC(=O)N1 NC(=O)NC(N)=O NC(=O)CO "
    "NCC(N)=O NC(=O)C=O CC(=O)NC(C)=O O=CNC=O O=C1NC(=O)C(=O)N1 O=C1CC(=O)NC(=O)N1 CCNC(N)=O "
    "NC(=O)C1CC1 NC(=O)CCC(N)=O C=CNC=O NC(=O)NO NNC(N)=O NNC=O CC(=O)NN NNC(=O)NN CC(=O)NO "
    "NC(=O)NCC=C CNC(=O)C(=O)NC CC(C)C(N)=O O=C1NC=CN1 CN1CCCC1=O CCCC(N)=O NC(=O)N1CC1",
    "acids": "CC(=O)O CCC(=O)O OC(=O)C(=O)O OC(=O)CC(=O)O OC(=O)CCC(=O)O OC(=O)C=CC(=O)O C=CC(=O)O "
    "OCC(=O)O CC(O)C(=O)O NCC(=O)O CC(N)C(=O)O OC(=O)c1ccccc1 CC(=O)C(=O)O O=CC(=O)O OC(O)=O "
    "CC(C)C(=O)O CCCC(=O)O OC(=O)C1CC1 NC(=O)C(=O)O CC=CC(=O)O COCC(=O)O CC(=O)OO OC(=O)CC#N "
    "CNCC(=O)O",
    "esters": "COC=O COC(C)=O CCOC=O CCOC(C)=O COC(=O)OC O=C1CCO1 O=C1CCCO1 COC(=O)C(=O)OC "
    "COC(=O)C=C CC(=O)OC(C)=O O=C1CCC(=O)O1 O=C1C=CC(=O)O1 CC(=O)OC=C O=C1OCCO1 COC(=O)CC#N "
    "O=C1COC(=O)CO1 COC(=O)c1ccccc1",
    "carbamates": "NC(=O)O COC(N)=O CCOC(N)=O CNC(=O)OC O=C1NCCO1 NC(=O)OC=C CNC(=O)O COC(=O)NC=O",
    "carbonyls": "CC=O CCC=O CC(C)=O CCC(C)=O O=CC=O CC(=O)C=O CC(=O)C(C)=O C=CC=O C=CC(C)=O "
    "O=C1CCC1 O=C1CCCC1 O=C1CCCCC1 O=C1CCC(=O)CC1 O=C1C=CC(=O)C=C1 O=Cc1ccccc1 CC(=O)c1ccccc1 "
    "C=C=O CC(=O)CO CC(=O)CC(C)=O O=CCC=O O=C1CC1 O=C1C=CCCC1 OCC=O CC(=O)CN NCC=O",
    "nitriles": "CC#N CCC#N C=CC#N N#CC#N N#CCC#N NC#N N#CCCC#N N#Cc1ccccc1 OCC#N NCC#N CN(C)C#N "
    "N#CC(=O)O N#CNC#N NC(=N)NC#N N#CC1CC1 C[N+]#[C-] CNC#N N#CCC(N)=O N#CC(N)=O N#CC=CC#N",
    "nitro": "C[N+](=O)[O-] CC[N+](=O)[O-] C=C[N+](=O)[O-] N[N+](=O)[O-] O[N+](=O)[O-] "
    "CO[N+](=O)[O-] O=[N+]([O-])c1ccccc1 C[N+](=O)[O-] CN(C)[N+](=O)[O-] CN[N+](=O)[O-] "
    "O=NO CON=O NC(=O)N[N+](=O)[O-] OCC[N+](=O)[O-] CN(C)N=O CC(C)[N+](=O)[O-]",
    "imines": "C=N CC=N CN=C NC=N NC(N)=N CC(N)=N CC=NO CC(C)=NO C=NO NN=C CC=NN CN=NC "
    "CNN CN(C)N CN=C=O CC(C)=NN NC(=N)NO ONC=O CNO CON CON=C CN=C=NC",
    "azoles": "c1cc[nH]c1 c1ccoc1 c1cnc[nH]1 c1cn[nH]c1 c1ncn[nH]1 c1cn[nH]n1 c1nnn[nH]1 c1cocn1 "
    "c1conc1 Cc1ccc[nH]1 Cn1cccc1 Cc1ccco1 Cn1ccnc1 Cc1cnc[nH]1 Cn1cccn1 Cc1cc[nH]n1 "
    "Nc1ncn[nH]1 Nc1nnn[nH]1 O=Cc1ccco1 OCc1ccco1 O=Cc1ccc[nH]1 c1nnco1 c1ncon1 Nc1cc[nH]n1 "
    "O=C1NC=NN1 c1ccc2[nH]ccc2c1 c1ccc2[nH]cnc2c1 c1ccc2[nH]ncc2c1 c1ccc2occc2c1 Nc1cocn1 "
    "Cc1cc(C)[nH]n1",
    "azines": "c1ccncc1 c1ccnnc1 c1cncnc1 c1cnccn1 c1ncncn1 c1cnnnc1 c1nncnn1 Cc1ccncc1 Cc1ccccn1 "
    "Cc1cccnc1 Nc1ccccn1 Nc1ccncc1 Oc1cccnc1 O=c1cccc[nH]1 O=c1cc[nH]cc1 Nc1ncccn1 Nc1ncncn1 "
    "Nc1nc(N)ncn1 Nc1nc(N)nc(N)n1 O=c1cc[nH]c(=O)[nH]1 Nc1cc[nH]c(=O)n1 O=c1ccnc[nH]1 Cc1cnccn1 "
    "Nc1cnccn1 O=c1[nH]c(=O)[nH]c(=O)[nH]1 N#Cc1ccncc1 NC(=O)c1cccnc1 OC(=O)c1cccnc1 "
    "O=Cc1ccccn1 c1cnc2[nH]cnc2n1 COc1ccccn1 Cc1c[nH]c(=O)[nH]c1=O",
}
"""SMILES of each family, separated by spaces."""

HYDROGEN_BONDED = {"small", "alcohols", "amides", "acids", "carbamates", "azoles", "imines"}
"""Families that are drawn twice as often for dimers and crystals."""

TEST_SHARE = 0.1
"""Share of the molecules kept out of training, with every dimer and crystal that holds one."""

ALWAYS_TRAINED = {"NC(N)=O", "O", "C", "N", "[H][H]", "O=C=O", "NC=O", "CC(=O)O", "c1ccccc1"}
"""Molecules never held out: there is one water and one urea."""


def molecules() -> list[tuple[str, str]]:
    """All (family, SMILES), each SMILES once, in a fixed order."""
    seen: dict[str, str] = {}
    for family, text in FAMILIES.items():
        for smiles in text.split():
            seen.setdefault(smiles, family)
    return [(family, smiles) for smiles, family in seen.items()]
